"""Paired differences and Student's intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.study.paired import T_975, Difference, compare, spread

ACCURACIES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def share_within(t: float, freedom: int) -> float:
    """Return the integral of Student's density from -t to t by Simpson's rule."""
    grid, width = np.linspace(0, t, 20_001, retstep=True)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    density = scale * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2)
    weights = np.ones(len(grid))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 2 * float(density @ weights) * float(width) / 3


@pytest.mark.parametrize("freedom", range(1, len(T_975) + 1))
def test_the_table_has_95_percent_between_plus_and_minus(freedom: int) -> None:
    t = T_975[freedom - 1]
    assert share_within(t - 0.0006, freedom) < 0.95 < share_within(t + 0.0006, freedom)


def test_beyond_the_table_the_interval_is_a_little_too_wide_and_never_too_narrow() -> None:
    assert share_within(T_975[-1], 21) > 0.95
    assert share_within(T_975[-1], 100_000) < 0.964


def test_a_case_by_hand() -> None:
    """Differences 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14 over 3, and t with three degrees is 3.182."""
    found = compare([11, 12, 13, 16], [10, 10, 10, 10])
    assert found.mean == 3
    assert found.half_width == pytest.approx(3.182 * math.sqrt(14 / 3) / 2)
    assert found.count == 4
    assert not found.is_clear


@settings(deadline=None)
@given(one=ACCURACIES, noise=st.integers(0, 1 << 30))
def test_it_is_numpys_mean_and_deviation_of_the_differences(one: list[float], noise: int) -> None:
    other = np.random.default_rng(noise).random(len(one)).tolist()
    differences = np.asarray(one) - np.asarray(other)
    found = compare(one, other)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-12)
    t = T_975[min(len(one) - 1, 20) - 1]
    assert found.half_width == pytest.approx(t * differences.std(ddof=1) / math.sqrt(len(one)), rel=1e-9, abs=1e-12)
    back = compare(other, one)
    assert back.mean == pytest.approx(-found.mean, abs=1e-15)
    assert back.half_width == pytest.approx(found.half_width)


def test_pairing_takes_out_what_both_have_in_common() -> None:
    seeds = [0.5, 0.6, 0.9]
    found = compare([value + 0.01 for value in seeds], seeds)
    assert found.mean == pytest.approx(0.01)
    assert found.half_width < 1e-12
    assert found.is_clear


def test_95_of_100_intervals_hold_the_truth() -> None:
    generator, hits = np.random.default_rng(4), 0
    for _ in range(2000):
        pairs = generator.normal(0.02, 0.01, 4)
        found = compare(pairs.tolist(), [0.0] * 4)
        hits += abs(found.mean - 0.02) <= found.half_width
    # 1900 are expected with a standard deviation of 10.
    assert 1860 < hits < 1940


def test_a_single_pair_says_nothing_for_sure() -> None:
    found = compare([0.9], [0.1])
    assert found == Difference(mean=0.8, half_width=math.inf, count=1)
    assert not found.is_clear
    assert spread([0.4]) == 0.0


@pytest.mark.parametrize(("one", "other"), [([], []), ([1.0], [1.0, 2.0])])
def test_what_is_no_pairing_is_refused(one: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=r"nothing to compare|longer"):
        compare(one, other)
