"""Cutting a product of thin matrices to a rank, against the singular values of the whole product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.adapters.truncation import FloatMatrix, truncate


def factors(seed: int, out: int, inner: int, inputs: int) -> tuple[FloatMatrix, FloatMatrix]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(out, inner)), generator.normal(size=(inner, inputs))


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 6), st.integers(1, 9), st.integers(1, 8))
def test_nothing_of_that_rank_is_nearer(seed: int, out: int, inner: int, inputs: int, rank: int) -> None:
    columns, rows = factors(seed, out, inner, inputs)
    cut_columns, cut_rows = truncate(columns, rows, rank)
    assert cut_columns.shape[0] == out
    assert cut_rows.shape[1] == inputs
    assert cut_columns.shape[1] == cut_rows.shape[0] <= rank
    # Eckart and Young: the least distance in the Frobenius norm is what the left-out singular values make.
    left_out = np.linalg.svd(columns @ rows, compute_uv=False)[rank:]
    distance = np.linalg.norm(columns @ rows - cut_columns @ cut_rows)
    assert distance == pytest.approx(np.linalg.norm(left_out), abs=1e-9)


def test_a_product_of_low_rank_is_kept_whole() -> None:
    left, right = factors(1, 12, 2, 10)
    mixing = np.random.default_rng(2).normal(size=(2, 6))
    columns, rows = left @ mixing, np.linalg.pinv(mixing) @ right
    cut_columns, cut_rows = truncate(columns, rows, 2)
    np.testing.assert_allclose(cut_columns @ cut_rows, left @ right, atol=1e-10)
