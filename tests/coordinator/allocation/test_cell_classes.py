"""Classes of the weighted profile: large enough for a cell, and nobody trains more than it can."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.allocation.cells import join_classes, least_cell
from ravan.ids import SiteId


@pytest.mark.parametrize(("threshold", "members"), [(3, 7), (5, 9), (8, 13), (10, 16), (16, 24), (32, 32)])
def test_cells_are_as_large_as_the_published_table_says_for_a_tenth_lost(threshold: int, members: int) -> None:
    # reference table for a drop-out rate of 0.1 and one failure in a thousand; 32 is the largest cell_minimum
    assert least_cell(threshold) == members


def fleet(*classes: tuple[int, int]) -> dict[SiteId, int]:
    return {SiteId(f"s{depth}-{i}"): depth for depth, count in classes for i in range(count)}


def classes(depth_of: dict[SiteId, int]) -> dict[int, int]:
    return dict(Counter(depth_of.values()))


def test_a_small_class_joins_the_next_weaker_one() -> None:
    joined = join_classes(fleet((0, 4), (1, 5), (2, 2), (3, 6)), 4)
    assert classes(joined) == {0: 4, 1: 7, 3: 6}


def test_the_weakest_class_draws_the_next_one_down() -> None:
    assert classes(join_classes(fleet((0, 2), (1, 5), (2, 6)), 4)) == {0: 7, 2: 6}


def test_classes_that_are_large_enough_stay() -> None:
    depth_of = fleet((1, 4), (2, 4))
    assert join_classes(depth_of, 4) == depth_of


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 8))
def test_any_fleet_has_classes_that_fill_a_cell_and_does_only_what_it_can(drawn: list[int], minimum: int) -> None:
    depth_of = {SiteId(f"s{i}"): depth for i, depth in enumerate(drawn)}
    joined = join_classes(depth_of, minimum)
    assert joined.keys() == depth_of.keys()
    assert all(joined[site] <= depth_of[site] for site in depth_of)
    counted = classes(joined)
    assert len(counted) == 1 or min(counted.values()) >= minimum
