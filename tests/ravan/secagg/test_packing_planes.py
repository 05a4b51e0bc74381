"""24-bit planar packing against plain integers."""

from __future__ import annotations

import numpy as np
import slow_headsum as slow
from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import unpacked_page

from ravan.secagg.packing import PACKED_BYTES, add_page, pack_page

WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=64).map(lambda xs: xs[: len(xs) // 4 * 4])


def packed(values: list[int]) -> bytes:
    page = bytearray(PACKED_BYTES * len(values))
    pack_page(np.array(values, "<u4"), memoryview(page))
    return bytes(page)


def test_planes_are_low_halves_then_high_bytes() -> None:
    assert packed([0x010203, 0xFF0405, 0xFFFFFF, 0]).hex() == "03020504ffff0000" + "01ffff00"


@given(WORDS)
def test_packing_keeps_24_bits(values: list[int]) -> None:
    reduced = [v % 2**24 for v in values]
    assert packed(values) == slow.packed(reduced)
    assert unpacked_page(memoryview(packed(values))) == reduced


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_added_pages_are_the_sum_modulo_the_ring(rows: list[list[int]]) -> None:
    length = min(map(len, rows))
    total = np.zeros(length, "<u4")
    for row in rows:
        add_page(memoryview(packed(row[:length])), total, np.empty_like(total))
    columns = zip(*(row[:length] for row in rows), strict=True)
    assert (total % 2**24).tolist() == [sum(column) % 2**24 for column in columns]
