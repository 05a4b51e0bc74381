"""Differences between sets of runs that share nothing, and Welch's intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.study.unpaired import contrast

ACCURACIES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def test_a_case_by_hand() -> None:
    """Variances of the means: 1 / 3 and (20 / 3) / 4, together 2.

    Degrees of freedom: 4 / ((1/9) / 2 + (25/9) / 3) = 4.08, so four, of which t is 2.776.
    """
    found = contrast([2, 4, 6, 8], [1, 2, 3])
    assert found.mean == 3
    assert found.half_width == pytest.approx(2.776 * math.sqrt(2))
    assert found.count == 3
    assert not found.is_clear


@settings(deadline=None)
@given(one=ACCURACIES, other=ACCURACIES)
def test_turned_around_it_is_the_same_the_other_way(one: list[float], other: list[float]) -> None:
    found, back = contrast(one, other), contrast(other, one)
    assert found.mean == pytest.approx(np.mean(one) - np.mean(other), abs=1e-12)
    assert back.mean == pytest.approx(-found.mean, abs=1e-12)
    assert back.half_width == pytest.approx(found.half_width)


def test_of_equal_means_19_intervals_in_20_hold_zero() -> None:
    """Over 4,000 draws the share of misses is at most 5 standard deviations (0.0034 each) above 0.05.

    Rounding the degrees of freedom down makes them a little too wide, so somewhat fewer misses are right as well.
    """
    generator = np.random.default_rng(7)
    draws = [(generator.normal(0, 1, 4), generator.normal(0, 3, 9)) for _ in range(4000)]
    misses = np.mean([contrast(one.tolist(), other.tolist()).is_clear for one, other in draws])
    assert 0.03 < misses < 0.05 + 5 * 0.0034


def test_a_variance_whose_square_is_nothing_has_an_interval_like_any_other() -> None:
    """The case by hand, made so small that squares of its variances are 0 in floating point."""
    found = contrast([x * 1e-100 for x in (2, 4, 6, 8)], [x * 1e-100 for x in (1, 2, 3)])
    assert found.half_width == pytest.approx(2.776 * math.sqrt(2) * 1e-100)


def test_one_run_tells_no_interval_and_equal_runs_one_of_0() -> None:
    assert math.isinf(contrast([0.7], [0.6, 0.8]).half_width)
    assert contrast([0.7, 0.7], [0.5, 0.5, 0.5]).half_width == 0.0
    assert contrast([0.7, 0.7], [0.5, 0.5, 0.5]).is_clear
    with pytest.raises(ValueError, match="nothing to compare"):
        contrast([], [0.5])
