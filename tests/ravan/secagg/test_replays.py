"""What was true once, said again: shares of another round or receiver, and a whole round."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from coordinator_loot import Loot, holdings
from lying_coordinator import EVERYONE, TILES, leaves, uploaded, vector
from secagg_driver import Federation, make_assignment, only, seeded

from ravan.errors import ErrorReason
from ravan.ids import Digest
from ravan.manifest.roster import Roster
from ravan.secagg.agent_secrets import channel_keys, deal_shares
from ravan.secagg.bundles import bundles_of
from ravan.secagg.effects import Mask
from ravan.secagg.keys import RoundKeys
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import (
    RevealRequest,
    SeedShare,
    ShareDelivery,
    SurvivorSet,
)
from ravan.secagg.sealing import seal
from ravan.secagg.shamir import PRIME
from ravan.secagg.transcript import derivation_salt

# --- replays ----------------------------------------------------------------------------------------------------


def second_round(first: Federation) -> Federation:
    """The same sites under fresh keys in the next round, up to the roster."""
    assignment = replace(first.assignment, round_number=2)
    federation = Federation(
        assignment, digest=Digest(seeded("second assignment")), roster_digest=Digest(seeded("second roster"))
    )
    federation.agents = {i: federation.agent(i, root=seeded("second root", i)) for i in EVERYONE}
    assert isinstance(federation.advertise(EVERYONE), Roster)
    return federation


def test_replayed_shares() -> None:
    first = Federation(make_assignment(TILES))
    first.advertise(EVERYONE)
    old = first.share(EVERYONE)
    assert isinstance(old, dict)
    assert isinstance(first.upload(old, EVERYONE), SurvivorSet)
    held = holdings(first)
    request = first.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    first.reveal(request, EVERYONE)

    federation = second_round(first)
    fresh = federation.share(EVERYONE)
    assert isinstance(fresh, dict)
    for holder in EVERYONE[1:]:
        # The victim's shares of the first round, to be revealed when it is called dead in the second.
        replayed = {**fresh[holder].ciphertexts, 0: old[holder].ciphertexts[0]}
        agent = federation.agents[holder]
        leaves(
            ErrorReason.PROTOCOL_VIOLATION,
            partial(agent.deliver, replace(fresh[holder], ciphertexts=replayed)),
            f"member 0 sealed for member {holder} were altered",
        )
        assert agent.state == "SHARING"
    loot = Loot(first)
    loot.take_reveals(first.revealed)
    assert loot.bare((0,), 0) is None
    for holder in EVERYONE[1:]:
        loot.take(holder, {0: SeedShare(share=held[holder][0].seed)})
    assert loot.bare((0,), 0) == vector(first, 0)


def test_shares_sent_back_to_who_sealed_them_or_to_somebody_else() -> None:
    federation = Federation(make_assignment([(0, 1)] * 5))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    agent, good = federation.agents[0], deliveries[0]
    # Both ways between two members the key is the same; sender and receiver are not.
    reflected = {**good.ciphertexts, 1: deliveries[1].ciphertexts[0]}
    misrouted = {**good.ciphertexts, 1: deliveries[2].ciphertexts[1]}
    exchanged = {**good.ciphertexts, 1: good.ciphertexts[2], 2: good.ciphertexts[1]}
    for ciphertexts in (reflected, misrouted, exchanged):
        leaves(
            ErrorReason.PROTOCOL_VIOLATION, partial(agent.deliver, replace(good, ciphertexts=ciphertexts)), "altered"
        )
    assert only(agent.deliver(good), Mask).job.bundles


def sealed_for_the_victim(federation: Federation, roster: Roster, sender: int) -> bytes:
    salt = derivation_salt(federation.digest, federation.roster_digest)
    own = RoundKeys(root=seeded("root", sender))
    return deal_shares(own, sender, roster, salt, channel_keys(own, sender, roster, salt))[1][0]


def test_shares_that_are_no_elements_of_the_field_are_refused_before_the_update_is_consumed() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    salt = derivation_salt(federation.digest, federation.roster_digest)
    liar = RoundKeys(root=seeded("root", 1))
    key = channel_keys(liar, 1, roster, salt)[0]
    count = 1 + len(bundles_of(roster.bundles, 1))
    good = tuple(bytes(33) for _ in range(count - 1))
    sealed = seal(key, salt, 1, 0, (*good, PRIME.to_bytes(33, "big")))
    agent = federation.agents[0]
    told = replace(deliveries[0], ciphertexts={**deliveries[0].ciphertexts, 1: sealed})
    leaves(ErrorReason.MALFORMED, lambda: agent.deliver(told), "not an element of the sharing field")
    assert agent.state == "SHARING"


def test_a_replayed_round_masks_nothing_twice() -> None:
    federation = uploaded()
    payload = federation.payloads[0]
    roster = federation.roster
    assert roster is not None
    agent = federation.agents[0]
    twin = federation.agent(0)
    twin.finish_training()
    twin.roster(roster, federation.roster_digest)
    sealed = {i: sealed_for_the_victim(federation, roster, i) for i in EVERYONE[1:]}
    delivery = ShareDelivery(mask_set=EVERYONE, ciphertexts=sealed)
    job = only(twin.deliver(delivery), Mask).job
    for replayed in (
        partial(agent.finish_training),
        partial(agent.roster, roster, federation.roster_digest),
        partial(agent.deliver, delivery),
        partial(agent.masked, Digest(bytes(32)), len(payload)),
        partial(twin.deliver, delivery),
    ):
        leaves(ErrorReason.WRONG_STATE, replayed, "which does not take")
    # What a second update under the same masks would give away: the difference of the two.
    doubled = {b: v * 2 for b, v in federation.vectors[0].items()}
    second = bytes(mask_vectors(job, doubled))
    low = [int.from_bytes(payload[2 * i : 2 * i + 2], "little") for i in range(len(doubled[0]))]
    lower = [int.from_bytes(second[2 * i : 2 * i + 2], "little") for i in range(len(doubled[0]))]
    assert [(b - a) % 2**16 for a, b in zip(low, lower, strict=True)] == [w % 2**16 for w in vector(federation, 0)]
