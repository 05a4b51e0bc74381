"""Decoding of sums: means, counts, and what lies outside an honest round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from secagg_driver import DENSE, head, make_assignment

from ravan.errors import ErrorReason, ProtocolError
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import lay_out, plan_bundles
from ravan.secagg.combine import RoundSum, WithheldReason, decode_sums
from ravan.secagg.messages import SurvivorSet
from ravan.secagg.packing import Elements
from ravan.secagg.unmask import Unmasked

ASSIGNMENT = make_assignment([(0, 1), (0, 1), (0, 1), (0,), (0,)], lengths=(2, 3, 4), dense=2)


def roster(finishers: tuple[int, ...]) -> Roster:
    return Roster(
        assignment_digest=bytes(32),  # type: ignore[arg-type]
        entries=(),
        threshold=4,
        bundles=plan_bundles(ASSIGNMENT, finishers),
    )


def decoded(changes: dict[tuple[int, int], int], finishers: tuple[int, ...] = (0, 1, 2, 3, 4)) -> RoundSum:
    """Decode zero sums but for {(bundle, coordinate): value}."""
    agreed = roster(finishers)
    approved = tuple(b.bundle_id for b in agreed.bundles if not b.void)
    sums: dict[int, Elements] = {
        b.bundle_id: np.zeros(lay_out(ASSIGNMENT, b).length, "<u4") for b in agreed.bundles if not b.void
    }
    for (bundle, coordinate), value in changes.items():
        sums[bundle][coordinate] = value % 2**24
    survivors = SurvivorSet(survivors=finishers, bundles=approved)
    return decode_sums(ASSIGNMENT, [unmasked(agreed, survivors, sums)], Denominator.TRAINERS)


def unmasked(agreed: Roster, survivors: SurvivorSet, sums: Mapping[int, Elements]) -> Unmasked:
    return Unmasked(roster=agreed, survivor_set=survivors, sums=sums, suspects=())


def test_signed_sums_and_the_one_division() -> None:
    limit = ASSIGNMENT.quantum_limit
    result = decoded({(1, 1): 12345, (1, 2): -5 * limit, (1, 3): 4})
    block = result.blocks[head(0)]
    assert block.total.tolist() == [12345, -5 * limit]
    assert (block.count, block.clipped) == (5, 4)
    # Head 0 has clip 0.5; Python integers and one true division give the nearest double.
    assert block.mean.tolist() == [12345 * 0.5 / (limit * 5), -0.5]
    assert block.mean.dtype == np.float64


def test_untrained_void_and_order() -> None:
    result = decoded({}, finishers=(0, 1, 3, 4))
    assert list(result.blocks) == [DENSE, head(0)]
    assert [(w.reason, w.blocks, w.survivors) for w in result.withheld] == [(WithheldReason.VOID, (head(1),), 2)]
    assert result.untrained == (head(2),)


@pytest.mark.parametrize("value", [5 * ASSIGNMENT.quantum_limit + 1, -5 * ASSIGNMENT.quantum_limit - 1])
def test_a_sum_that_honest_members_cannot_reach_is_refused(value: int) -> None:
    with pytest.raises(ProtocolError, match="honest") as caught:
        decoded({(1, 1): value})
    assert caught.value.reason is ErrorReason.PROTOCOL_VIOLATION


def test_more_clip_flags_than_members_are_refused() -> None:
    with pytest.raises(ProtocolError, match="honest"):
        decoded({(2, 4): 4})


def test_sums_of_other_bundles_or_lengths_are_refused() -> None:
    agreed = roster((0, 1, 2, 3, 4))
    survivors = SurvivorSet(survivors=(0, 1, 2, 3, 4), bundles=(0, 1, 2))
    sums: dict[int, Elements] = {b.bundle_id: np.zeros(lay_out(ASSIGNMENT, b).length, "<u4") for b in agreed.bundles}
    for wrong in ({0: sums[0]}, {**sums, 1: sums[1][:-4]}):
        with pytest.raises(ProtocolError) as caught:
            decode_sums(ASSIGNMENT, [unmasked(agreed, survivors, wrong)], Denominator.TRAINERS)
        assert caught.value.reason is ErrorReason.MALFORMED
    fewer = replace(survivors, bundles=(0, 1))
    with pytest.raises(ProtocolError):
        decode_sums(ASSIGNMENT, [unmasked(agreed, fewer, sums)], Denominator.TRAINERS)
