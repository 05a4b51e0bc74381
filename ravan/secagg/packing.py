"""Ring elements as bytes: pages of two, three or four bytes an element, little-endian.

Three bytes lie in two planes, low 16 bits and then high 8 bits, since plain numpy moves planes at the
speed of memory and three-byte words at a fifth of it. Pages, so that a payload of any size is read
with one small buffer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE_ELEMENTS: Final = 1 << 16
"""Elements of a full page; part of the payload format, and small enough to stay in a core's cache."""

RING: Final = np.dtype("<u4")
"""Working type of ring elements: sums wrap modulo 2^32, which every ring's modulus divides."""

_LOW: Final = np.dtype("<u2")
_HIGH: Final = np.dtype("u1")

Elements = NDArray[np.uint32]


def packed_bytes(ring_bits: int) -> int:
    """Return the bytes of one packed element."""
    return ring_bits // 8


def modulus_mask(ring_bits: int) -> int:
    """Return 2^ring_bits - 1, which reduces an element modulo the ring."""
    return (1 << ring_bits) - 1


def pack_page(elements: Elements, page: memoryview, ring_bits: int) -> None:
    """Write the low `ring_bits` (16, 24 or 32) of `elements` (dtype `<u4`, contiguous) into `page`."""
    if ring_bits == 32:
        np.frombuffer(page, RING)[:] = elements
        return
    count = len(elements)
    np.frombuffer(page, _LOW, count)[:] = elements.view(_LOW)[::2]
    if ring_bits == 24:
        np.frombuffer(page, _HIGH, count, offset=2 * count)[:] = elements.view(_HIGH)[2::4]


def add_page(page: memoryview, total: Elements, scratch: Elements, ring_bits: int) -> None:
    """Add a packed page to `total` modulo 2^32, using `scratch` of the same length."""
    if ring_bits == 32:
        np.add(total, np.frombuffer(page, RING), out=total)
        return
    count = len(total)
    if ring_bits == 24:
        np.left_shift(np.frombuffer(page, _HIGH, count, offset=2 * count), 16, out=scratch, dtype=RING)
        np.add(total, scratch, out=total)
    np.add(total, np.frombuffer(page, _LOW, count), out=total)
