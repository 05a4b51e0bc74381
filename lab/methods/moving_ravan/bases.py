"""Bases of which some directions are given: they come first, and drawn ones, made orthogonal to them, fill the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ravan.adapters.basis import Basis, orthonormalise

Array = NDArray[np.float64]


def fill_basis(drawn: Basis, left: Array, right: Array) -> Basis:
    """Return heads whose first directions are `left` (out, k) and `right` (k, in), spread over the heads in order.

    Head 1 takes the first r of them, head 2 the next, so that leading directions meet in one core. What is left over is
    the drawn basis, orthonormalised after the given ones.
    """
    heads, out_features, rank = drawn.b.shape
    columns = drawn.b.transpose(1, 0, 2).reshape(out_features, heads * rank)
    rows = drawn.a.reshape(heads * rank, -1)
    b = _lead(left, columns).reshape(out_features, heads, rank).transpose(1, 0, 2)
    a = _lead(right.T, rows.T).T.reshape(heads, rank, -1)
    return Basis(b=np.ascontiguousarray(b, np.float32), a=np.ascontiguousarray(a, np.float32))


def _lead(given: Array, drawn: NDArray[np.float32]) -> Array:
    """Return an orthonormal matrix of the drawn one's shape that begins with the given columns."""
    count = drawn.shape[1]
    joined = np.concatenate([given[:, :count], drawn.astype(np.float64)], axis=1)[:, :count]
    return orthonormalise(joined)
