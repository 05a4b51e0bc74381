"""HeadSum v1: sums of the sites' updates that nobody can take apart, bundle by bundle.

Pure and without I/O: two machines, their messages, and two jobs for workers. A round in order, with
`assignment` and its `digest = document_digest(DocumentKind.ASSIGNMENT, payload)` at hand:

Coordinator (`coordinator.py`; every `close_…` may return an `Abort` instead)
    c = CoordinatorRound(assignment=assignment, assignment_digest=digest)
    c.advertised(i, advertisement)            c.lost(j); c.ready; c.can_close; c.missing; c.phase
    roster = c.close_advertise()              serialise, sign document_signing_bytes(ROSTER, payload)
    c.roster_published(document_digest(DocumentKind.ROSTER, payload))
    c.shares(i, sealed_shares)
    deliveries = c.close_sharing()            {index: ShareDelivery} for each member of U2
    c.verify_upload(i, header)                before a byte of the payload is taken
    c.uploaded(i, header)                     after size and SHA-256 of the staged payload were checked
    survivor_set = c.close_upload()           to all survivors
    c.survivor_signature(i, signature)
    request = c.close_confirmation()          to all survivors
    c.revealed(i, shares)
    job = c.close_reveal()                    as soon as `can_close`, or when `ready`
    result = unmask(job, open_payload, progress)                  in a worker: `unmask.py`
    round_sum = decode_sums(assignment, roster, survivor_set, result.sums, plan.denominator)

Agent (`agent.py`; every input returns effects to be carried out in order, see `effects.py`)
    a = AgentRound(assignment=assignment, assignment_digest=digest, index=my_index,
                   signer=identity.sign, root=os.urandom(32), policy_floor=policy.minimum_cohort)
    [Advertise(advertisement)] = a.finish_training()
    [SendShares(shares)] = a.roster(roster, roster_digest)
    vectors = quantise_update(assignment, bundles_of(roster.bundles, my_index), deltas, statistics,
                              rounding_source(seed))              `ravan/quantisation.py`, once
    [Mask(job)] = a.deliver(share_delivery)
    payload = mask_vectors(job, vectors)      in a worker; store it before going on: `masking.py`
    [Upload(header)] = a.masked(sha256(payload), len(payload))    the update is consumed
    a.uploaded()
    [SignSurvivors(signature)] = a.survivors(survivor_set)
    [PersistRevealed(digest), SendReveal(shares)] = a.reveal(request)
    a.close()                                 result, abort or leaving: drops all secrets

Signatures of documents are checked by whoever parses them, before the machines see the values:
`keys.verify(manifest_key, signature, document_signing_bytes(kind, payload), what)`. Members are
named by their index in the assignment; the shell maps the site of the TLS certificate to it.
A refused input raises RavanError and changes nothing. Both machines are deterministic, so a shell
that stored a machine's inputs (and the agent's root) replays them after a restart and gets the
same bytes; replaying never masks another vector under the same keys, since the shell keeps the
stored payload and answers `Mask` with it.
"""
