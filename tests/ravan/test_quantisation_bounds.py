"""Clipping and stochastic rounding: bounds, unbiasedness, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId, BlockKind
from ravan.quantisation import Grid, quantise_block, rounding_source

BLOCK = BlockId(BlockKind.HEAD, 0, 3, 1)
LIMITS = st.sampled_from([65535, 83886, 1677721, 2796202])
DELTAS = arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))
CLIPS = st.floats(1e-6, 1e6)


def grid(clip: float, limit: int) -> Grid:
    return Grid(clip=clip, bound=clip, limit=limit)


@given(DELTAS, CLIPS, LIMITS, st.integers(0, 2**32))
def test_error_is_at_most_one_step_of_the_clipped_value(delta: object, clip: float, limit: int, seed: int) -> None:
    assert isinstance(delta, np.ndarray)
    block = quantise_block(BLOCK, delta, grid(clip, limit), np.random.default_rng(seed))
    exact = delta.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    assert block.clipped == (norm > clip)
    if norm > clip:
        exact *= clip / norm
    assert np.abs(block.values).max() <= limit
    # One part in 2^30 of a step for the float64 arithmetic of this very comparison.
    assert np.abs(block.values - exact * (limit / clip)).max() <= 1 + 2.0**-30


def test_rounding_is_unbiased() -> None:
    delta = np.full(200_000, 0.3, np.float32) * (1.0 / 83886)
    block = quantise_block(BLOCK, delta, grid(1.0, 83886), np.random.default_rng(5))
    assert set(block.values.tolist()) == {0, 1}
    # The mean of 200,000 has a standard deviation of 0.001; the seed is fixed.
    assert abs(float(block.values.mean()) - 0.3) < 0.005


def test_blocks_of_any_shape_are_row_major() -> None:
    delta = np.arange(6, dtype=np.float32).reshape(2, 3)
    block = quantise_block(BLOCK, delta, grid(100.0, 1000), np.random.default_rng(0))
    assert block.values.tolist() == [0, 10, 20, 30, 40, 50]
    assert quantise_block(BLOCK, delta.T, grid(100.0, 1000), np.random.default_rng(0)).values.tolist() == [
        0,
        30,
        10,
        40,
        20,
        50,
    ]


def test_long_blocks_are_scaled_throughout() -> None:
    delta = np.ones(100_000, np.float32)
    block = quantise_block(BLOCK, delta, grid(1.0, 2**20), np.random.default_rng(0))
    assert block.clipped
    expected = 2**20 / np.sqrt(100_000)
    assert np.abs(block.values - expected).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    delta = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        quantise_block(BLOCK, delta, grid(1.0, 1000), rounding_source(b"seed"))
    assert caught.value.reason is ErrorReason.MALFORMED
    assert caught.value.next_step


def test_each_seed_rounds_in_its_own_way() -> None:
    first, again, other = (rounding_source(seed).random(8).tolist() for seed in (b"1", b"1", b"2"))
    assert first == again
    assert first != other
