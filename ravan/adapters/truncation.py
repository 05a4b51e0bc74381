"""The nearest product of lower rank: singular value decomposition of a product of thin matrices, never of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float64]


def truncate(columns: FloatMatrix, rows: FloatMatrix, rank: int) -> tuple[FloatMatrix, FloatMatrix]:
    """Return C' (out, rank) and R' (rank, in) whose product is the nearest to C R of that rank (Eckart and Young 1936).

    `columns` is C (out, k), `rows` is R (k, in). A rank of k or more loses nothing; the factors then have rank k.
    """
    left, left_core = np.linalg.qr(columns)  # (out, k), (k, k)
    right, right_core = np.linalg.qr(rows.T)  # (in, k), (k, k)
    u, singular, v = np.linalg.svd(left_core @ right_core.T)
    kept = min(rank, len(singular))
    root = np.sqrt(singular[:kept])  # half to each side, so that neither factor is large
    return left @ u[:, :kept] * root, root[:, None] * (v[:kept] @ right.T)
