"""Statistics as sums of limbs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.errors import DataError, ErrorReason
from ravan.manifest.assignment import RING_WIDTHS
from ravan.secagg.statistics import (
    NOTHING,
    LocalStatistics,
    add_statistics,
    decode_statistics,
    encode_statistics,
    statistics_limbs,
)

COUNTS = st.integers(0, 2**32 - 1)
STATISTICS = st.builds(LocalStatistics, examples=COUNTS, loss_sum=st.floats(0, 2.0**43), correct=COUNTS)


@given(st.lists(STATISTICS, min_size=1, max_size=128), st.sampled_from(RING_WIDTHS))
def test_totals_of_up_to_128_sites(sites: list[LocalStatistics], ring_bits: int) -> None:
    rows = [encode_statistics(site, ring_bits) for site in sites]
    sums = [sum(column) for column in zip(*rows, strict=True)]
    assert max(sums) < 2**ring_bits
    assert len(sums) == statistics_limbs(ring_bits)
    totals = decode_statistics(sums, ring_bits)
    assert totals.examples == sum(s.examples for s in sites)
    assert totals.correct == sum(s.correct for s in sites)
    exact = math.fsum(s.loss_sum for s in sites)
    assert abs(totals.loss_sum - exact) <= len(sites) * 2.0**-21 + exact * 2.0**-52


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_sum": math.nan},
        {"loss_sum": math.inf},
        {"loss_sum": -1.0},
        {"loss_sum": 2.0**44},
        {"examples": 2**32},
        {"examples": -1},
        {"correct": 2**32},
    ],
    ids=str,
)
def test_figures_that_cannot_be_carried_are_refused(changes: dict[str, float]) -> None:
    figures = {"examples": 1, "loss_sum": 1.0, "correct": 1, **changes}
    with pytest.raises(DataError) as caught:
        encode_statistics(LocalStatistics(**figures), 24)  # type: ignore[arg-type]
    assert caught.value.reason is ErrorReason.MALFORMED
    assert caught.value.next_step


def test_nothing_adds_nothing() -> None:
    site = LocalStatistics(examples=3, loss_sum=1.5, correct=2)
    assert add_statistics([NOTHING, site, NOTHING]) == site
    assert add_statistics([site, site]) == LocalStatistics(examples=6, loss_sum=3.0, correct=4)
