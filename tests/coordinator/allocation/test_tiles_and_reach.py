"""Tiles, and how far down each site reaches: limits hold, and more memory never reaches less far."""

from __future__ import annotations

import itertools

import pytest
from fleets import BUDGET, capacities, capacity, fits
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.allocation.policy import Reach, Shortage, SiteCapacity, find_reach
from coordinator.allocation.tiles import form_tiles, matrices_in
from ravan.ids import SiteId
from ravan.manifest.assignment import MAX_TILES


def reach_of(fleet: dict[str, SiteCapacity], matrices: int = 12) -> Reach:
    return find_reach(form_tiles(plan_of(matrices)), {SiteId(name): site for name, site in fleet.items()}, BUDGET)


@pytest.mark.parametrize(
    ("matrices", "sizes"),
    [
        (0, []),
        (1, [1]),
        (12, [1] * 12),
        (16, [1] * 16),
        (24, [1, 2] * 8),
        (17, [1] * 15 + [2]),
    ],
)
def test_tiles_share_the_matrices_evenly(matrices: int, sizes: list[int]) -> None:
    assert [matrices_in(tile) for tile in form_tiles(plan_of(matrices))] == sizes


@given(st.integers(1, 100), st.integers(1, 5))
def test_tiles_hold_every_head_once_and_run_from_the_top_down(matrices: int, heads: int) -> None:
    plan = plan_of(matrices, heads=heads, rank=1, width=8)
    tiles = form_tiles(plan)
    assert [tile.tile_id for tile in tiles] == list(range(len(tiles)))
    assert len(tiles) <= MAX_TILES
    blocks = [block for tile in tiles for block in tile.blocks]
    assert sorted(blocks) == sorted(plan.head_ids())
    assert len(set(blocks)) == len(blocks)
    for upper, lower in itertools.pairwise(tiles):
        assert min(b.matrix for b in upper.blocks) > max(b.matrix for b in lower.blocks)


def test_unequal_limits_reach_unequally_far_down() -> None:
    # 450 MB for the floor and 20 MB a matrix, all times 1.05: 6 matrices need 598.5 MB, 12 need 724.5 MB.
    reach = reach_of({"a": capacity(535.6), "b": capacity(724.5), "c": capacity(1000), "e": capacity(598.5)})
    assert reach.depth_of == {"a": 3, "b": 12, "c": 12, "e": 6}
    assert not reach.left_out


def test_a_site_may_get_the_dense_blocks_alone_or_nothing() -> None:
    reach = reach_of({"dense": capacity(473), "none": capacity(472), "slow": capacity(900, floor_s=144.1)})
    assert reach.depth_of == {"dense": 0}
    assert reach.left_out == {"none": Shortage.MEMORY, "slow": Shortage.TIME}


def test_a_slow_site_gets_what_it_finishes_in_four_fifths_of_the_deadline() -> None:
    # 1440 s for 10 steps: 144 s a step, 44 s of which go to 4 matrices of 11 s.
    assert reach_of({"a": capacity(4000, floor_s=100.0, per_matrix_s=11.0)}).depth_of == {"a": 4}


@given(st.dictionaries(st.sampled_from("abcdef"), capacities, max_size=6), st.integers(0, 40))
def test_nobody_reaches_further_than_it_can_hold_and_everybody_as_far(
    fleet: dict[str, SiteCapacity], matrices: int
) -> None:
    tiles = form_tiles(plan_of(matrices))
    reach = reach_of(fleet, matrices)
    assert set(reach.depth_of) | set(reach.left_out) == set(fleet)
    for site, depth in reach.depth_of.items():
        assert fits(fleet[site], sum(matrices_in(tile) for tile in tiles[:depth]))
        if depth < len(tiles):
            assert not fits(fleet[site], sum(matrices_in(tile) for tile in tiles[: depth + 1]))
    for site in reach.left_out:
        assert not fits(fleet[site], 0)


@given(st.floats(100, 4000), st.floats(0, 1000))
def test_more_memory_never_reaches_less_far(limit_mb: float, more_mb: float) -> None:
    depth_of = reach_of({"a": capacity(limit_mb), "b": capacity(limit_mb + more_mb)}).depth_of
    assert depth_of.get(SiteId("a"), -1) <= depth_of.get(SiteId("b"), -1)


def test_halving_the_limit_changes_the_reach() -> None:
    assert reach_of({"a": capacity(1000)}).depth_of == {"a": 12}
    assert reach_of({"a": capacity(500)}).depth_of == {"a": 1}
