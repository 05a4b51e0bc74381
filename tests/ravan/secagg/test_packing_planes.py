"""Packing of ring elements against plain integers."""

from __future__ import annotations

import numpy as np
import pytest
import slow_headsum as slow
from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import unpacked_page

from ravan.manifest.assignment import RING_WIDTHS
from ravan.secagg.packing import add_page, pack_page, packed_bytes

WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=64).map(lambda xs: xs[: len(xs) // 4 * 4])
RINGS = st.sampled_from(RING_WIDTHS)


def packed(values: list[int], ring_bits: int) -> bytes:
    page = bytearray(packed_bytes(ring_bits) * len(values))
    pack_page(np.array(values, "<u4"), memoryview(page), ring_bits)
    return bytes(page)


@pytest.mark.parametrize(
    ("ring_bits", "page"),
    [
        (16, "03020504ffff0000"),
        (24, "03020504ffff0000" + "01ffff00"),
        (32, "03020100" + "0504ff00" + "ffffff00" + "00000000"),
    ],
)
def test_24_bits_are_a_plane_of_low_halves_then_one_of_high_bytes(ring_bits: int, page: str) -> None:
    assert packed([0x010203, 0xFF0405, 0xFFFFFF, 0], ring_bits).hex() == page


@given(WORDS, RINGS)
def test_packing_keeps_the_low_bits(values: list[int], ring_bits: int) -> None:
    reduced = [v % 2**ring_bits for v in values]
    assert packed(values, ring_bits) == slow.packed(reduced, ring_bits)
    assert unpacked_page(memoryview(bytearray(packed(values, ring_bits))), ring_bits) == reduced


@given(st.lists(WORDS, min_size=1, max_size=5), RINGS)
def test_added_pages_are_the_sum_modulo_the_ring(rows: list[list[int]], ring_bits: int) -> None:
    length = min(map(len, rows))
    total = np.zeros(length, "<u4")
    for row in rows:
        add_page(memoryview(packed(row[:length], ring_bits)), total, np.empty_like(total), ring_bits)
    columns = zip(*(row[:length] for row in rows), strict=True)
    assert [int(word) % 2**ring_bits for word in total] == [sum(column) % 2**ring_bits for column in columns]
