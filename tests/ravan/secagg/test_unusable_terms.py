"""Keys and bounds that are signed and well formed, and still of no use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from secagg_driver import Federation, identity, make_assignment, only, refused

from ravan.errors import ErrorReason
from ravan.manifest.roster import RosterEntry
from ravan.secagg.effects import Advertise
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
