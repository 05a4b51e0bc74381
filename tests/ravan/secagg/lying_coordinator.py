"""A coordinator that lies: what it shows to real agents, and how their refusals are judged.

Each case of the attack table ends in a refusal with a typed reason, for which a real agent leaves the
round and is counted by that reason, and in no leak: with everything that the agents said the liar's
best effort fails. Where there is something to gain, the case also shows what the liar would have had
if the agents had done what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from coordinator_loot import Holdings, Loot, without_checks
from secagg_driver import Federation, identity, make_assignment

from edge_agent.session.failures import drop_reason
from ravan.errors import ErrorReason, RavanError
from ravan.manifest.assignment import Assignment
from ravan.manifest.phases import DropReason
from ravan.manifest.roster import Roster
from ravan.secagg.messages import (
    RevealRequest,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.transcript import mask_set_digest, survivor_bytes

EVERYONE = tuple(range(5))
"""Five members, t = 4, at least three to a bundle; member 0 is the victim."""

TILES = ((0, 1), (0, 1), (0,), (0,), (0, 1))
"""Members 0, 1 and 4 train the second tile, which is bundle 2; all others bundle 1."""

NARROW = 2


def leaves(
    reason: ErrorReason, action: Callable[[], object], match: str, drop: DropReason = DropReason.PROTOCOL
) -> None:
    """Assert a typed refusal that tells people what to do and counts as `drop` at the coordinator."""
    with pytest.raises(RavanError, match=match) as caught:
        action()
    assert caught.value.reason is reason
    assert caught.value.next_step
    assert drop_reason(caught.value) is drop


def uploaded(
    assignment: Assignment | None = None, *, sharers: Sequence[int] = EVERYONE, uploaders: Sequence[int] = EVERYONE
) -> Federation:
    """A federation whose vectors are with the coordinator, those of `uploaders` in time."""
    federation = Federation(assignment or make_assignment(TILES))
    members = [member.index for member in federation.assignment.members]
    assert isinstance(federation.advertise(members), Roster)
    deliveries = federation.share([i for i in members if i in sharers])
    assert isinstance(deliveries, dict)
    assert isinstance(federation.upload(deliveries, uploaders), SurvivorSet)
    return federation


def demand(federation: Federation, asked: SurvivorSet, signers: Sequence[int]) -> RevealRequest:
    """A reveal request under signatures that the coordinator came by somehow: the sites' keys are ours in tests."""
    mask_set = mask_set_digest(federation.digest, federation.roster_digest, federation.mask_set)
    message = survivor_bytes(mask_set, asked.survivors, asked.bundles)
    signatures = tuple(SurvivorSignature(index=i, signature=identity(i).sign(message)) for i in signers)
    return RevealRequest(survivor_set=asked, signatures=signatures)


def vector(federation: Federation, bundle_id: int, index: int = 0) -> list[int]:
    words: list[int] = federation.vectors[index][bundle_id].tolist()
    return words


def answered(loot: Loot, held: Holdings, asked: SurvivorSet) -> Loot:
    """What the coordinator would have if agents answered without looking."""
    for holder in asked.survivors:
        loot.take(holder, without_checks(held[holder], asked))
    return loot
