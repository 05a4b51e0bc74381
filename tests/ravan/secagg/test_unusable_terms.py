"""Keys and bounds that are signed and well formed, and still of no use."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from secagg_driver import Federation, head, identity, make_assignment, only, refused

from ravan.errors import ErrorReason
from ravan.manifest.assignment import MAX_TILES
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.effects import Advertise, SendShares
from ravan.secagg.terms import check_assignment
from ravan.secagg.transcript import advertise_bytes

LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    # Points of order 8 and the prime itself, in the encodings of RFC 7748's field.
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ((1 << 255) - 19).to_bytes(32, "little"),
]


def signed_again(federation: Federation, entry: RosterEntry) -> RosterEntry:
    message = advertise_bytes(federation.digest, entry.index, entry.mask_key, entry.channel_key)
    return replace(entry, signature=identity(entry.index).sign(message))


@pytest.mark.parametrize("key", LOW_ORDER)
@pytest.mark.parametrize("masks", [True, False])
def test_a_member_with_a_key_of_low_order_is_refused_before_others_meet_it(key: bytes, masks: bool) -> None:
    federation = Federation(make_assignment([(0, 1), (0, 1), (0, 1)]))
    good = only(federation.agents[0].finish_training(), Advertise).advertisement
    bad = signed_again(federation, replace(good, mask_key=key) if masks else replace(good, channel_key=key))

    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.coordinator.advertised(0, bad), "no usable X25519 key")
    federation.coordinator.advertised(0, good)


@pytest.mark.parametrize("key", LOW_ORDER)
@pytest.mark.parametrize("masks", [True, False])
def test_a_roster_with_a_key_of_low_order_is_refused_before_a_share_leaves(key: bytes, masks: bool) -> None:
    """The coordinator and the member with the key may be one."""
    federation = Federation(make_assignment([(0, 1), (0, 1), (0, 1)]))
    roster = federation.advertise((0, 1, 2))
    assert isinstance(roster, Roster)
    *others, last = roster.entries
    bad = signed_again(federation, replace(last, mask_key=key) if masks else replace(last, channel_key=key))
    lie = replace(roster, entries=(*others, bad))

    agent = federation.agents[0]
    refused(ErrorReason.MALFORMED, lambda: agent.roster(lie, federation.roster_digest), "no usable X25519 key")
    only(agent.roster(roster, federation.roster_digest), SendShares)


def test_one_key_for_both_uses_is_refused() -> None:
    federation = Federation(make_assignment([(0, 1), (0, 1), (0, 1)]))
    good = only(federation.agents[0].finish_training(), Advertise).advertisement
    twofold = signed_again(federation, replace(good, channel_key=good.mask_key))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.coordinator.advertised(0, twofold), "serves twice")


@pytest.mark.parametrize("clip", [5e-324, 1e-305])
def test_a_clip_bound_that_no_number_can_be_divided_by_is_refused(clip: float) -> None:
    assignment = make_assignment([(0, 1), (0, 1), (0, 1)])
    check_assignment(assignment)
    first, *rest = assignment.blocks
    tiny = replace(assignment, blocks=(replace(first, clip=clip), *rest))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(tiny), "too small")


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize("masks", [True, False])
def test_a_key_of_another_length_is_refused_even_when_signed(size: int, masks: bool) -> None:
    federation = Federation(make_assignment([(0, 1), (0, 1), (0, 1)]))
    good = only(federation.agents[0].finish_training(), Advertise).advertisement
    key = bytes(range(1, size + 1))
    bad = signed_again(federation, replace(good, mask_key=key) if masks else replace(good, channel_key=key))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: federation.coordinator.advertised(0, bad), "does not have 32 bytes")


@pytest.mark.parametrize(("members", "usable"), [(2, False), (3, True), (4096, True), (4097, False)])
def test_how_many_members_a_round_may_have(members: int, usable: bool) -> None:
    assignment = make_assignment([(0,)] * members)
    if usable:
        check_assignment(assignment)
    else:
        refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(assignment), f"not {members}")


@pytest.mark.parametrize("indices", [(1, 2, 3), (0, 1, 3), (0, 1, 1), (-1, 0, 1)])
def test_members_that_are_not_numbered_from_0(indices: tuple[int, ...]) -> None:
    good = make_assignment([(0,)] * 3)
    members = tuple(replace(m, index=i) for m, i in zip(good.members, indices, strict=True))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(replace(good, members=members)), "numbered")


@pytest.mark.parametrize(("tiles", "usable"), [(MAX_TILES, True), (MAX_TILES + 1, False)])
def test_how_many_tiles_an_assignment_may_have(tiles: int, usable: bool) -> None:
    assignment = make_assignment([(0,)] * 3, lengths=[1] * tiles)
    if usable:
        check_assignment(assignment)
    else:
        refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(assignment), "too many")


def test_two_tiles_of_one_name_or_with_one_block() -> None:
    good = make_assignment([(0,)] * 3)
    first, second, third = good.tiles
    same_name = replace(good, tiles=(first, replace(second, tile_id=0), third))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(same_name), "listed twice")
    same_block = replace(good, tiles=(first, replace(second, blocks=first.blocks), third))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(same_block), "do not divide")
    unknown = replace(good, tiles=(first, replace(second, blocks=(head(9),)), third))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(unknown), "do not divide")
    twice = replace(good, blocks=(*good.blocks, good.blocks[-1]))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(twice), "listed twice")


@pytest.mark.parametrize(
    "changes", [{"length": 0}, {"length": -1}, *({"clip": c} for c in (0.0, -1.0, math.inf, math.nan))]
)
def test_one_block_that_is_empty_or_has_no_bound(changes: dict[str, Any]) -> None:
    good = make_assignment([(0,)] * 3)
    *others, last = good.blocks
    bad = replace(good, blocks=(*others, replace(last, **changes)))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(bad), "is empty or has no")
    check_assignment(replace(good, blocks=(*others, replace(last, length=1))))


@pytest.mark.parametrize("scored", [(3,), (1, 0), (0, 0), (-1,)], ids=str)
def test_a_tile_to_score_that_is_unknown_or_listed_twice(scored: tuple[int, ...]) -> None:
    bad = make_assignment([(0,)] * 3, scored=[(0, 1, 2), scored, ()])
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(bad), "trains or scores a tile")
    check_assignment(make_assignment([(0,)] * 3, scored=[(0, 1, 2), (2,), ()]))


def test_a_round_in_which_nobody_trains_a_head_is_sound() -> None:
    check_assignment(make_assignment([()] * 3))


def test_a_clip_bound_that_a_rotation_makes_zero_is_refused() -> None:
    assignment = make_assignment([(0,)] * 3, lengths=(256,), rotate=True)
    first, core = assignment.blocks
    tiny = replace(assignment, blocks=(first, replace(core, clip=5e-324)))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(tiny), "too small")
