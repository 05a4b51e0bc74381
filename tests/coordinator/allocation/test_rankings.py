"""Rankings of tiles, and that any of them leaves every tile enough sites or none."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from fleets import BUDGET, capacities, fits
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.allocation.coverage import CoverageRules, settle_depths
from coordinator.allocation.policy import SiteCapacity, find_reach
from coordinator.allocation.ranking import (
    Ranking,
    Tiles,
    choose_tiles,
    head_norms,
    rank_at_random,
    rank_by_gradient,
    rank_by_weight,
    rank_from_top,
)
from coordinator.allocation.tiles import form_tiles, matrices_in
from ravan.adapters.state import initial_state
from ravan.ids import RunId, SiteId
from ravan.manifest.assignment import MAX_TILES, Tile, Weighting

RUN = RunId(bytes(range(16)))
UNIFORM = CoverageRules(threshold=3)


def named(*depths: int) -> dict[SiteId, int]:
    return {SiteId(f"s{i:04}"): depth for i, depth in enumerate(depths)}


def weighted(least: int) -> CoverageRules:
    return CoverageRules(threshold=3, weighting=Weighting(limit=255, unit=16, cell_minimum=least, cell_threshold=3))


def chosen(ranking: Ranking, share: float, *depths: int, rules: CoverageRules = UNIFORM) -> list[Tiles]:
    return [tiles for _, tiles in sorted(choose_tiles(named(*depths), rules, ranking, share).items())]


def bottom_first(depth: int) -> Sequence[int]:
    return range(depth)[::-1]


def test_random_ranking_is_the_documented_hash() -> None:
    def place(tile: int) -> bytes:
        numbers = b"".join(number.to_bytes(8, "big") for number in (7, 12, tile))
        return hashlib.sha256(b"ravan/allocation/random/v1" + RUN + numbers).digest()

    places = {place(tile): tile for tile in range(12)}
    assert list(rank_at_random(RUN, 7)(12)) == [places[key] for key in sorted(places)]


def test_random_ranking_differs_by_round_depth_and_run_and_brings_every_tile_up() -> None:
    first = rank_at_random(RUN, 1)
    assert list(first(16)) == list(rank_at_random(RUN, 1)(16))
    others = [rank_at_random(RUN, 2)(16), rank_at_random(RunId(bytes(16)), 1)(16), [*first(17)]]
    assert all(list(other)[:16] != list(first(16)) for other in others)
    leaders = Counter(rank_at_random(RUN, number)(16)[0] for number in range(1, 1601))
    # 100 each are expected, with a standard deviation below 10.
    assert set(leaders) == set(range(16))
    assert max(abs(count - 100) for count in leaders.values()) < 40


def test_weight_ranking_is_by_mean_norm_and_from_the_top_among_equals() -> None:
    heads = plan_of(4, heads=2).head_ids()
    tiles = (Tile(tile_id=0, blocks=heads[6:]), Tile(tile_id=1, blocks=heads[4:6]), Tile(tile_id=2, blocks=heads[:4]))
    norms = dict(zip(heads, (3.0, 3.0, 3.0, 3.0, 4.0, 2.0, 2.0, 2.0), strict=True))
    assert list(rank_by_weight(tiles, norms)(3)) == [1, 2, 0]
    assert list(rank_by_weight(tiles, norms)(2)) == [1, 0]
    assert list(rank_by_weight(tiles, dict.fromkeys(heads, 0.0))(3)) == [0, 1, 2]


def test_gradient_ranking_is_by_mean_score_and_what_has_none_comes_last_from_the_top() -> None:
    heads = plan_of(5, heads=2).head_ids()
    tiles = tuple(Tile(tile_id=i, blocks=heads[2 * i : 2 * i + 2]) for i in range(5))
    scores = dict(zip(heads[2:8], (0.2, 0.4, 0.0, 0.0, 1.0, 0.3), strict=True))
    assert list(rank_by_gradient(tiles, scores)(5)) == [3, 1, 2, 0, 4]
    assert list(rank_by_gradient(tiles, scores)(2)) == [1, 0]
    assert list(rank_by_gradient(tiles, {})(5)) == [0, 1, 2, 3, 4]


def test_norms_are_those_of_the_heads_and_of_nothing_else() -> None:
    plan = plan_of(2, heads=2, rank=3)
    rng = np.random.default_rng(5)
    state = {block: rng.standard_normal(array.shape).astype(np.float32) for block, array in initial_state(plan).items()}
    norms = head_norms(state)
    assert set(norms) == set(plan.head_ids())
    for head, norm in norms.items():
        assert norm == pytest.approx(math.sqrt(math.fsum(float(x) ** 2 for x in state[head].flat)), rel=1e-14)


def test_a_share_is_taken_by_rank() -> None:
    assert chosen(rank_from_top, 0.5, 8, 8, 8, 4, 4, 4) == [(0, 1, 2, 3)] * 3 + [(0, 1)] * 3
    assert chosen(bottom_first, 0.5, 8, 8, 8, 4, 4, 4) == [(4, 5, 6, 7)] * 3 + [(2, 3)] * 3


@pytest.mark.parametrize(
    ("share", "depth", "count"), [(0.7, 10, 7), (0.1, 10, 1), (0.05, 10, 1), (0.34, 3, 2), (1e-12, 10, 1)]
)
def test_a_share_is_rounded_up_to_whole_tiles(share: float, depth: int, count: int) -> None:
    assert chosen(rank_from_top, share, *[depth] * 3) == [tuple(range(count))] * 3


def test_a_tile_that_too_few_would_choose_gives_way_to_the_next_choice() -> None:
    # Two strong sites alone would train 7 and 6; they train what the others do as well.
    assert chosen(bottom_first, 0.25, 8, 8, 6, 6, 6) == [(4, 5)] * 5


def test_weak_sites_are_not_left_without_heads() -> None:
    # Two sites reach tile 0 alone. They are too few for it, so whoever trains others trains it with them.
    assert chosen(bottom_first, 0.5, 1, 1, 8, 8, 8, 8) == [(0,)] * 2 + [(0, 5, 6, 7)] * 4


def test_classes_of_the_weighted_profile_do_not_merge() -> None:
    depths = [4] * 4 + [3] * 4
    assert chosen(rank_from_top, 0.5, *depths) == [(0, 1)] * 8
    assert chosen(rank_from_top, 0.5, *depths, rules=weighted(4)) == [(0, 1, 2)] * 4 + [(0, 1)] * 4


SINGLES = plan_of(MAX_TILES, heads=1).head_ids()
"""One head for each tile."""

rankings = st.one_of(
    st.just(rank_from_top),
    st.just(bottom_first),
    st.integers(1, 1 << 40).map(lambda number: rank_at_random(RUN, number)),
    st.permutations(range(MAX_TILES)).map(lambda order: lambda depth: [tile for tile in order if tile < depth]),
    st.dictionaries(st.sampled_from(SINGLES), st.floats(0, 1)).map(
        lambda scores: rank_by_gradient([Tile(tile_id=i, blocks=(head,)) for i, head in enumerate(SINGLES)], scores)
    ),
)
shares = st.integers(1, 100).map(lambda percent: percent / 100)


def check_choice(tiles_of: dict[SiteId, Tiles], settled: dict[SiteId, int], least: int) -> None:
    assert tiles_of.keys() == settled.keys()
    for site, tiles in tiles_of.items():
        assert list(tiles) == sorted(set(tiles))
        assert set(tiles) <= set(range(settled[site]))
        assert bool(tiles) == bool(settled[site])
    assert len(set(zip(settled.values(), (tiles_of[site] for site in settled), strict=True))) == len(
        set(settled.values())
    )
    holders = Counter(tile for tiles in tiles_of.values() for tile in tiles)
    assert all(count >= least for count in holders.values())


@given(st.lists(st.integers(0, MAX_TILES), min_size=1, max_size=40), st.integers(3, 12), rankings, shares)
def test_any_ranking_leaves_every_tile_enough_sites_or_none(
    depths: list[int], threshold: int, ranking: Ranking, share: float
) -> None:
    rules = CoverageRules(threshold=threshold)
    settled = settle_depths(named(*depths), rules)
    tiles_of = choose_tiles(settled, rules, ranking, share)
    check_choice(tiles_of, settled, threshold)
    for site, tiles in tiles_of.items():
        assert len(tiles) <= math.ceil(Fraction(round(share * 100), 100) * settled[site])
    assert tiles_of == choose_tiles(dict(reversed(settled.items())), rules, ranking, share)


@given(st.lists(st.integers(0, MAX_TILES), min_size=16, max_size=60), st.integers(3, 8), rankings, shares)
def test_any_ranking_keeps_the_classes_of_the_weighted_profile(
    depths: list[int], least: int, ranking: Ranking, share: float
) -> None:
    settled = settle_depths(named(*depths), weighted(least))
    tiles_of = choose_tiles(settled, weighted(least), ranking, share)
    check_choice(tiles_of, settled, 3)
    assert sorted(Counter(tiles_of.values()).values()) == sorted(Counter(settled.values()).values())
    assert min(Counter(tiles_of.values()).values()) >= least


@given(st.lists(st.integers(0, MAX_TILES), min_size=1, max_size=40), rankings)
def test_who_trains_all_it_can_hold_has_no_choice(depths: list[int], ranking: Ranking) -> None:
    settled = settle_depths(named(*depths), UNIFORM)
    tiles_of = choose_tiles(settled, UNIFORM, ranking, 1.0)
    assert tiles_of == {site: tuple(range(depth)) for site, depth in settled.items()}


@given(
    st.lists(capacities, min_size=3, max_size=20),
    st.integers(1, 40),
    st.sampled_from([UNIFORM, CoverageRules(threshold=4, spare=2), weighted(3)]),
    rankings,
    shares,
)
def test_nobody_is_asked_for_more_than_it_can_hold_in_memory_and_train_in_time(
    sites: list[SiteCapacity], matrices: int, rules: CoverageRules, ranking: Ranking, share: float
) -> None:
    fleet = {SiteId(f"s{i}"): site for i, site in enumerate(sites)}
    tiles = form_tiles(plan_of(matrices))
    assert len(tiles) <= MAX_TILES
    settled = settle_depths(find_reach(tiles, fleet, BUDGET).depth_of, rules)
    for site, granted in choose_tiles(settled, rules, ranking, share).items():
        lowest = max(granted, default=-1)
        # Whatever is left out above the lowest tile is paid for nevertheless.
        assert fits(fleet[site], sum(matrices_in(tile) for tile in tiles[: lowest + 1]))
