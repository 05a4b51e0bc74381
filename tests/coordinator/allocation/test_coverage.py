"""Every tile is trained by enough sites or by nobody, and nobody trains further down than it can."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.allocation.cells import least_cell
from coordinator.allocation.coverage import CoverageRules, count_holders, settle_depths
from ravan.ids import SiteId
from ravan.manifest.assignment import MAX_TILES, Weighting


def named(*depths: int) -> dict[SiteId, int]:
    return {SiteId(f"s{i:04}"): depth for i, depth in enumerate(depths)}


def settled(*depths: int, threshold: int = 3, spare: int = 0, weighting: Weighting | None = None) -> list[int]:
    rules = CoverageRules(threshold=threshold, spare=spare, weighting=weighting)
    return [depth for _, depth in sorted(settle_depths(named(*depths), rules).items())]


def cells_of(least: int, threshold: int = 3) -> Weighting:
    return Weighting(limit=255, unit=16, cell_minimum=least, cell_threshold=threshold)


def test_where_all_tiles_have_enough_sites_each_trains_what_it_can() -> None:
    assert settled(4, 12, 12, 12, 6) == [4, 12, 12, 12, 6]


def test_a_tile_that_too_few_can_hold_costs_nobody_a_step() -> None:
    assert settled(4, 12, 12, 9, 6) == [4, 9, 9, 9, 6]
    assert settled(4, 12, 12, 0, 6) == [4, 6, 6, 0, 6]


def test_where_no_tile_has_enough_sites_the_dense_blocks_are_left() -> None:
    assert settled(12, 12, 0, 0) == [0, 0, 0, 0]


def test_spare_sites_are_asked_for_as_long_as_that_leaves_a_tile() -> None:
    assert settled(12, 12, 12, 6, 6, spare=2) == [6, 6, 6, 6, 6]
    # Nothing has six sites; the uppermost tiles have five.
    assert settled(12, 12, 12, 6, 6, spare=3) == [6, 6, 6, 6, 6]
    assert settled(12, 12, 12, 0, 0, spare=3) == [12, 12, 12, 0, 0]
    assert settled(12, 12, 0, 0, 0, spare=3) == [0, 0, 0, 0, 0]


def test_classes_of_the_weighted_profile_fill_cells_and_cover_what_they_train() -> None:
    weighting = cells_of(4)
    assert settled(*[6] * 7, 12, weighting=weighting) == [6] * 8
    assert settled(*[12] * 4, *[6] * 4, weighting=weighting) == [12] * 4 + [6] * 4
    # The weakest class is no cell and draws all others down.
    assert settled(*[12] * 5, 6, 6, weighting=weighting) == [6] * 7


def test_a_tile_with_a_cell_but_fewer_sites_than_the_threshold_is_trained_by_nobody() -> None:
    assert settled(*[12] * 4, *[6] * 4, threshold=5, weighting=cells_of(4)) == [6] * 8


depths = st.lists(st.integers(0, MAX_TILES), min_size=1, max_size=60)


@given(depths, st.integers(3, 20), st.integers(0, 10))
def test_every_tile_has_the_least_number_of_sites_or_none(drawn: list[int], threshold: int, spare: int) -> None:
    rules = CoverageRules(threshold=threshold, spare=spare)
    settled = settle_depths(named(*drawn), rules)
    assert all(settled[site] <= depth for site, depth in named(*drawn).items())
    trained = [n for tile in range(MAX_TILES) if (n := count_holders(settled, tile))]
    held = [sum(depth > tile for depth in drawn) for tile in range(MAX_TILES)]
    assert all(n >= threshold for n in trained)
    # Spare sites are missed only where not even the uppermost tile has them, and then by as few as possible.
    assert not trained or min(trained) >= min(threshold + spare, held[0])
    assert len(trained) == sum(n >= max(threshold, min(threshold + spare, held[0])) for n in held)


@given(depths, st.integers(3, 20), st.data())
def test_more_memory_never_gives_a_site_less(drawn: list[int], threshold: int, data: st.DataObject) -> None:
    site = SiteId(f"s{data.draw(st.integers(0, len(drawn) - 1)):04}")
    before = named(*drawn)
    after = {**before, site: data.draw(st.integers(before[site], MAX_TILES))}
    rules = CoverageRules(threshold=threshold)
    assert settle_depths(after, rules)[site] >= settle_depths(before, rules)[site]


@given(st.lists(st.integers(0, MAX_TILES), min_size=20, max_size=60), *[st.integers(3, 10)] * 2, st.integers(0, 4))
def test_cells_hold_in_every_settled_fleet(drawn: list[int], threshold: int, least: int, spare: int) -> None:
    rules = CoverageRules(threshold=threshold, spare=spare, weighting=cells_of(least))
    settled = settle_depths(named(*drawn), rules)
    assert all(settled[site] <= depth for site, depth in named(*drawn).items())
    assert min(Counter(settled.values()).values()) >= least
    trained = [n for tile in range(MAX_TILES) if (n := count_holders(settled, tile))]
    assert all(n >= max(threshold, least) for n in trained)


@pytest.mark.parametrize("threshold", [3, 8])
def test_default_cells_are_large_enough_for_the_threshold(threshold: int) -> None:
    weighting = cells_of(least_cell(threshold), threshold)
    count = weighting.cell_minimum
    assert settled(*[12] * count, *[6] * count, threshold=threshold, weighting=weighting) == [12] * count + [6] * count
