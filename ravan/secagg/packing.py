"""24-bit planar packing: pages of low 16 bits, then high 8 bits, little-endian, three bytes an element.

Planes instead of three-byte words, since plain numpy moves them at the speed of memory; pages, so
that a payload of any size is read with one small buffer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PAGE_ELEMENTS: Final = 1 << 16
"""Elements of a full page; part of the payload format, and small enough to stay in a core's cache."""

PACKED_BYTES: Final = 3
"""Bytes of one packed element."""

RING_BITS: Final = 24
"""Width that this packing carries."""

RING: Final = np.dtype("<u4")
"""Working type of ring elements: sums wrap modulo 2^32, which 2^24 divides."""

_LOW: Final = np.dtype("<u2")
_HIGH: Final = np.dtype("u1")

Elements = NDArray[np.uint32]


def pack_page(elements: Elements, page: memoryview) -> None:
    """Write the low 24 bits of `elements` (dtype `<u4`, contiguous) into `page`, three bytes each."""
    low, high = _planes(page)
    low[:] = elements.view(_LOW)[::2]
    high[:] = elements.view(_HIGH)[2::4]


def add_page(page: memoryview, total: Elements, scratch: Elements) -> None:
    """Add a packed page to `total` modulo 2^32, using `scratch` of the same length."""
    low, high = _planes(page)
    np.left_shift(high, 16, out=scratch, dtype=RING)
    total += scratch
    total += low


def _planes(page: memoryview) -> tuple[NDArray[np.uint16], NDArray[Any]]:
    count = len(page) // PACKED_BYTES
    low = np.frombuffer(page, _LOW, count)
    return low, np.frombuffer(page, _HIGH, count, offset=2 * count)
