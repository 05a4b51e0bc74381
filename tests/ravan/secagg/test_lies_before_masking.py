"""Lies up to the masks: substituted keys, planted and absent peers, small cohorts, other manifests and models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
from coordinator_loot import MASK_SEED, Loot
from lying_coordinator import EVERYONE, TILES, leaves, uploaded, vector
from secagg_driver import Federation, identity, make_assignment, only, seeded

from ravan.errors import ErrorReason
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.agent_secrets import HeldShares, channel_keys, deal_shares
from ravan.secagg.bundles import bundles_of, plan_bundles, shamir_threshold
from ravan.secagg.effects import Advertise, Mask
from ravan.secagg.keys import RoundKeys, agree, derive_private_key, public_bytes
from ravan.secagg.messages import (
    RevealRequest,
    SeedShare,
    ShareDelivery,
)
from ravan.secagg.sealing import channel_key, open_sealed
from ravan.secagg.transcript import advertise_bytes, derivation_salt

# --- key substitution, planted peers -----------------------------------------------------------------------


def in_the_middle(roster: Roster, digest: Digest, replaced: Sequence[int]) -> tuple[Roster, dict[int, RoundKeys]]:
    """Put round keys of the coordinator's in the place of others', under signatures of its own making."""
    keys = {i: RoundKeys(root=seeded("coordinator", i)) for i in replaced}
    entries = {entry.index: entry for entry in roster.entries}
    for i, own in keys.items():
        mask_key = public_bytes(derive_private_key(own.mask_seed))
        channel = public_bytes(own.channel_key)
        signature = identity(99).sign(advertise_bytes(digest, i, mask_key, channel))
        entries[i] = RosterEntry(index=i, mask_key=mask_key, channel_key=channel, signature=signature)
    return replace(roster, entries=tuple(entries[i] for i in sorted(entries))), keys


def opened_by(
    federation: Federation, roster: Roster, keys: dict[int, RoundKeys], victim: int = 0
) -> dict[int, HeldShares]:
    """What the coordinator could open if the victim dealt shares under this roster."""
    salt = derivation_salt(federation.digest, federation.roster_digest)
    own = RoundKeys(root=seeded("root", victim))
    _, sealed = deal_shares(own, victim, roster, salt, channel_keys(own, victim, roster, salt))
    public = next(entry.channel_key for entry in roster.entries if entry.index == victim)
    bundles = [bundle.bundle_id for bundle in bundles_of(roster.bundles, victim)]
    opened = {}
    for holder, mine in keys.items():
        key = channel_key(agree(mine.channel_key, public, salt), (victim, holder))
        seed, *selves = open_sealed(key, salt, victim, holder, sealed[holder], shares=1 + len(bundles))
        opened[holder] = HeldShares(seed=seed, self_seeds=dict(zip(bundles, selves, strict=True)))
    return opened


@pytest.mark.parametrize("replaced", [(1, 2, 3, 4), (3,)])
def test_key_substitution(replaced: tuple[int, ...]) -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    substituted, keys = in_the_middle(roster, federation.digest, replaced)
    victim = federation.agents[0]
    who = f"member {replaced[0]}'s round keys"
    leaves(ErrorReason.SIGNATURE_INVALID, lambda: victim.roster(substituted, federation.roster_digest), who)
    assert victim.state == "ADVERTISED"
    loot = Loot(federation)
    assert loot.secret(0, MASK_SEED) is None
    for holder, opened in opened_by(federation, substituted, keys).items():
        loot.take(holder, {0: SeedShare(share=opened.seed)})
    # With all others in its hand the liar would have the victim's key.
    found = RoundKeys(root=seeded("root", 0)).mask_seed if len(replaced) >= roster.threshold else None
    assert loot.secret(0, MASK_SEED) == found


def test_the_own_key_replaced() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    substituted, _ = in_the_middle(roster, federation.digest, (0,))
    for victim, reason, match in (
        (0, ErrorReason.PROTOCOL_VIOLATION, "own keys"),
        (1, ErrorReason.SIGNATURE_INVALID, "member 0"),
    ):
        refusing = federation.agents[victim]
        leaves(reason, partial(refusing.roster, substituted, federation.roster_digest), match)


def test_a_planted_peer_in_the_roster() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise((0, 1, 2))
    assert isinstance(roster, Roster)
    planted, keys = in_the_middle(roster, federation.digest, (3, 4))
    planted = replace(planted, threshold=shamir_threshold(5), bundles=plan_bundles(federation.assignment, EVERYONE))
    victim = federation.agents[0]
    leaves(
        ErrorReason.SIGNATURE_INVALID,
        lambda: victim.roster(planted, federation.roster_digest),
        "member 3's round keys",
    )
    stranger = replace(planted, entries=(*planted.entries, replace(planted.entries[-1], index=5)))
    leaves(
        ErrorReason.PROTOCOL_VIOLATION, lambda: victim.roster(stranger, federation.roster_digest), "were not assigned"
    )
    # What the planted ones would have had of the victim: shares of all its secrets.
    assert set(opened_by(federation, planted, keys)) == {3, 4}


# --- absent peers -------------------------------------------------------------------------------------------


def test_absent_peers() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    victim = federation.agents[0]
    absent = replace(roster, entries=roster.entries[1:])
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: victim.roster(absent, federation.roster_digest), "own keys")
    deliveries = federation.share(EVERYONE)
    assert isinstance(deliveries, dict)
    victim = federation.agents[0]
    good = deliveries[0]
    without_me = ShareDelivery(mask_set=(1, 2, 3, 4), ciphertexts=good.ciphertexts)
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: victim.deliver(without_me), "leaves this site out")
    # Member 4 is said to mask, but nobody could take its part if it dropped out.
    silent = ShareDelivery(mask_set=EVERYONE, ciphertexts={i: good.ciphertexts[i] for i in (1, 2, 3)})
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: victim.deliver(silent), "not exactly")
    few = ShareDelivery(mask_set=(0, 1, 2), ciphertexts={i: good.ciphertexts[i] for i in (1, 2)})
    leaves(ErrorReason.THRESHOLD_MISSED, lambda: victim.deliver(few), "Only 3 sites shared")
    assert victim.state == "SHARING"
    assert only(victim.deliver(good), Mask).job.bundles


# --- small cohort -------------------------------------------------------------------------------------------


def test_a_small_cohort_in_the_assignment() -> None:
    federation = Federation(make_assignment(TILES))
    small = replace(federation.assignment, bundle_threshold=2)
    leaves(ErrorReason.THRESHOLD_MISSED, lambda: federation.agent(0, assignment=small), "asks for 3 or more")
    leaves(ErrorReason.THRESHOLD_MISSED, lambda: federation.agent(0, policy_floor=4), "asks for 4 or more")
    alone = make_assignment(TILES[:2])
    leaves(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.agent(0, assignment=alone), "3 to 4096 members")


def test_a_small_cohort_in_the_roster() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise((0, 1, 2, 3))
    assert isinstance(roster, Roster)
    assert [bundle.void for bundle in roster.bundles] == [False, False, True]
    victim = federation.agents[0]
    *others, thin = roster.bundles
    for bundle in (replace(thin, void=False), replace(thin, threshold=2, void=False)):
        revived = replace(roster, bundles=(*others, bundle))
        leaves(
            ErrorReason.PROTOCOL_VIOLATION,
            partial(victim.roster, revived, federation.roster_digest),
            "do not follow from its members",
        )
    federation = Federation(make_assignment(TILES, threshold=5))
    entries = tuple(only(federation.agents[i].finish_training(), Advertise).advertisement for i in (0, 1, 2, 3))
    few = Roster(
        assignment_digest=federation.digest,
        entries=entries,
        threshold=shamir_threshold(4),
        bundles=plan_bundles(federation.assignment, (0, 1, 2, 3)),
    )
    leaves(
        ErrorReason.THRESHOLD_MISSED,
        lambda: federation.agents[0].roster(few, federation.roster_digest),
        "Only 4 sites are in the roster",
    )


# --- another manifest, other models ---------------------------------------------------------------------------


MANIFESTS: dict[str, Callable[[Assignment], Assignment]] = {
    "model version": lambda a: replace(a, state_digest=Digest(seeded("a version that makes one site stand out"))),
    "base model": lambda a: replace(a, model_digest=Digest(seeded("another model"))),
    "training settings": lambda a: replace(a, plan_digest=Digest(seeded("another plan"))),
    "clip": lambda a: replace(a, blocks=(replace(a.blocks[0], clip=1e-3), *a.blocks[1:])),
    "round": lambda a: replace(a, round_number=2),
}


@pytest.mark.parametrize("change", MANIFESTS)
def test_different_models_or_settings_to_different_agents(change: str) -> None:
    """Only the victim gets something to learn, so that the sum is its own update and zeros."""
    honest = Federation(make_assignment(TILES))
    shown = MANIFESTS[change](honest.assignment)
    other_digest = Digest(hashlib.sha256(repr(shown).encode()).digest())
    victim = honest.agent(0, assignment=shown, assignment_digest=other_digest)
    advertised = only(victim.finish_training(), Advertise).advertisement
    roster = honest.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    entries = (advertised, *roster.entries[1:])
    for agent, digest, stranger in ((victim, other_digest, 1), (honest.agents[1], honest.digest, 0)):
        told = replace(roster, assignment_digest=digest, entries=entries)
        leaves(
            ErrorReason.SIGNATURE_INVALID,
            partial(agent.roster, told, honest.roster_digest),
            f"member {stranger}'s round keys",
        )
        assert agent.state == "ADVERTISED"


def test_what_different_models_would_give() -> None:
    federation = uploaded()
    request = federation.confirm(EVERYONE)
    assert isinstance(request, RevealRequest)
    federation.reveal(request, EVERYONE)
    loot = Loot(federation)
    loot.take_reveals(federation.revealed)
    total = loot.bare(EVERYONE, 0)
    assert total is not None
    # Whoever chose the others' updates takes them off.
    others = federation.plain_sum(0, EVERYONE[1:])
    assert [(t - o) % 2**24 for t, o in zip(total, others, strict=True)] == vector(federation, 0)


def test_a_changed_manifest_under_the_old_digest() -> None:
    federation = Federation(make_assignment(TILES))
    roster = federation.advertise(EVERYONE)
    assert isinstance(roster, Roster)
    other = replace(roster, assignment_digest=Digest(seeded("another assignment")))
    for agent in federation.agents.values():
        leaves(
            ErrorReason.PROTOCOL_VIOLATION,
            partial(agent.roster, other, federation.roster_digest),
            "belongs to another assignment",
        )
        easier = replace(roster, threshold=roster.threshold - 1)
        leaves(ErrorReason.PROTOCOL_VIOLATION, partial(agent.roster, easier, federation.roster_digest), "do not follow")
