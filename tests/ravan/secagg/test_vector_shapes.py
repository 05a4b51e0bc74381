"""Vectors of the wrong size or type are refused on both sides, and the ring's halves are told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from secagg_driver import DENSE, Federation, head, make_assignment, only, random_blocks, refused, statistics_of

from ravan.errors import ErrorReason
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import lay_out, plan_bundles
from ravan.secagg.combine import decode_sums
from ravan.secagg.effects import Mask
from ravan.secagg.masking import mask_vectors
from ravan.secagg.packing import PAGE_ELEMENTS
from ravan.secagg.vectors import QuantisedBlock, assemble, read_block

ASSIGNMENT = make_assignment([(0, 1, 2)] * 3)


@pytest.mark.parametrize("values", [np.zeros(8, np.int32), np.zeros(10, np.int32), np.zeros((9, 1), np.int32)])
def test_a_block_of_another_shape_is_refused(values: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> None:
    blocks = random_blocks(ASSIGNMENT, 0) | {head(0): QuantisedBlock(values=values, clipped=False)}
    layout = lay_out(ASSIGNMENT, plan_bundles(ASSIGNMENT, range(3))[1])
    refused(ErrorReason.MALFORMED, lambda: assemble(layout, blocks, statistics_of(0)), "of 9 values")


@pytest.mark.parametrize("ring_bits", [16, 24, 32])
def test_the_upper_half_of_the_ring_is_negative(ring_bits: int) -> None:
    assignment = make_assignment([(0,)] * 3, lengths=(4,), ring_bits=ring_bits)
    layout = lay_out(assignment, plan_bundles(assignment, range(3))[1])
    half = 1 << ring_bits - 1
    total = np.zeros(layout.length, "<u4")
    (slot,) = layout.slots
    total[slot.offset : slot.flag] = [0, half - 1, half, 2 * half - 1]
    assert read_block(layout, slot, total).tolist() == [0, half - 1, -half, -1]


def test_a_page_has_65536_elements() -> None:
    """Part of the payload's format: another page size is another order of the planes."""
    assert PAGE_ELEMENTS == 65536


@pytest.mark.parametrize("longer", [-4, 4])
@pytest.mark.parametrize("kind", ["<u4", "<u2", "<f8"])
def test_a_vector_of_another_size_or_type_is_not_masked(longer: int, kind: str) -> None:
    federation = Federation(ASSIGNMENT)
    assert isinstance(federation.advertise(range(3)), Roster)
    deliveries = federation.share(range(3))
    assert isinstance(deliveries, dict)
    job = only(federation.agents[0].deliver(deliveries[0]), Mask).job
    size = job.bundles[0].length
    good = {bundle.bundle_id: np.zeros(bundle.length, "<u4") for bundle in job.bundles}
    for bad in (np.zeros(size + longer, "<u4"), *([] if kind == "<u4" else [np.zeros(size, kind)])):
        refused(ErrorReason.MALFORMED, lambda bad=bad: mask_vectors(job, good | {0: bad}), "is not")  # type: ignore[misc]
    assert mask_vectors(job, good)


@pytest.mark.parametrize("longer", [-1, 1])
def test_a_sum_of_another_size_is_not_decoded(longer: int) -> None:
    federation = Federation(ASSIGNMENT)
    result = federation.run(finishers=range(3), sharers=range(3), uploaders=range(3), revealers=range(3))
    assert DENSE in decode_sums(ASSIGNMENT, [result], Denominator.COHORT).blocks
    wrong = replace(result, sums={**result.sums, 0: np.zeros(len(result.sums[0]) + longer, "<u4")})
    refused(ErrorReason.MALFORMED, lambda: decode_sums(ASSIGNMENT, [wrong], Denominator.COHORT), "does not have")
