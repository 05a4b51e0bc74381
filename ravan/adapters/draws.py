"""Pseudo-random numbers for bases and first weights, exact on every CPU because they start as integers."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.keystream import expand

_TERMS: Final = 12
"""Uniform 16-bit terms in one draw: their sum has the standard deviation sqrt(2^32 - 1), about 2^16."""

_MIDDLE: Final = _TERMS * 65535 // 2
"""Mean of the sum; a whole number, so centring is exact."""


def draw_normals(seed: bytes, label: bytes, context: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return draws of about N(0, 1), each the exact value of an integer over 2^16, within (-6, 6)."""
    count = int(np.prod(shape, dtype=np.int64))
    stream = expand(seed, label, context, 2 * _TERMS * count)
    uniforms = np.frombuffer(stream, dtype="<u2").reshape(count, _TERMS)
    sums = uniforms.sum(axis=1, dtype=np.int64)
    normals: NDArray[np.float64] = (sums - _MIDDLE) / 65536.0
    return normals.reshape(shape)
