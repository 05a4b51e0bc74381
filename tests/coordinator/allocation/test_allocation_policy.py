"""Tiles and allotments: limits hold, more memory never gives less, tiles come from the top."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of

from coordinator.allocation.policy import (
    DEADLINE_SHARE,
    MEMORY_MARGIN,
    Allocation,
    Shortage,
    SiteCapacity,
    allocate,
)
from coordinator.allocation.tiles import form_tiles, matrices_in
from ravan.ids import Digest, SiteId
from ravan.manifest.assignment import MAX_TILES
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

MB = 1 << 20


def capacity(
    limit_mb: float,
    *,
    loaded_mb: int = 400,
    floor_mb: int = 50,
    per_matrix_mb: int = 20,
    floor_s: float = 0.1,
    per_matrix_s: float = 0.02,
) -> SiteCapacity:
    hardware = HardwareProfile(
        cores=2,
        ram_total_bytes=8192 * MB,
        ram_limit_bytes=int(limit_mb * MB),
        ram_limit_source=LimitSource.CGROUP,
        disk_free_bytes=1 << 40,
        aes_instructions=True,
        cpu_capability="AVX2",
        agent_version="0.1.0",
    )
    job = JobProfile(
        plan_digest=Digest(bytes(32)),
        ram_loaded_bytes=loaded_mb * MB,
        ram_floor_bytes=floor_mb * MB,
        ram_per_matrix_bytes=per_matrix_mb * MB,
        step_floor_s=floor_s,
        step_per_matrix_s=per_matrix_s,
    )
    return SiteCapacity(hardware=hardware, job=job)


def share_out(fleet: dict[str, SiteCapacity], matrices: int = 12) -> Allocation:
    return allocate(
        form_tiles(plan_of(matrices)),
        {SiteId(name): site for name, site in fleet.items()},
        steps=10,
        training_deadline_s=1800.0,
    )


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


def test_unequal_limits_give_unequal_prefixes() -> None:
    # 450 MB for the floor and 20 MB a matrix, all times 1.05: 6 matrices need 598.5 MB, 12 need 724.5 MB.
    allocation = share_out({"a": capacity(535.6), "b": capacity(724.5), "c": capacity(1000), "e": capacity(598.5)})
    assert {site: len(tiles) for site, tiles in allocation.tiles_of.items()} == {"a": 3, "b": 12, "c": 12, "e": 6}
    assert allocation.tiles_of[SiteId("a")] == (0, 1, 2)
    assert not allocation.left_out


def test_a_site_may_get_the_dense_blocks_alone_or_nothing() -> None:
    allocation = share_out({"dense": capacity(473), "none": capacity(472), "slow": capacity(900, floor_s=144.1)})
    assert allocation.tiles_of == {"dense": ()}
    assert allocation.left_out == {"none": Shortage.MEMORY, "slow": Shortage.TIME}


def test_a_slow_site_gets_what_it_finishes_in_four_fifths_of_the_deadline() -> None:
    # 1440 s for 10 steps: 144 s a step, 44 s of which go to 4 matrices of 11 s.
    allocation = share_out({"a": capacity(4000, floor_s=100.0, per_matrix_s=11.0)})
    assert len(allocation.tiles_of[SiteId("a")]) == 4


capacities = st.builds(
    capacity,
    st.floats(100, 4000),
    loaded_mb=st.integers(100, 1000),
    floor_mb=st.integers(1, 300),
    per_matrix_mb=st.integers(0, 200),
    floor_s=st.floats(0.001, 200),
    per_matrix_s=st.floats(0, 50),
)


@given(st.dictionaries(st.sampled_from("abcdef"), capacities, max_size=6), st.integers(0, 40))
def test_nobody_is_asked_for_more_than_it_can_hold_and_everybody_for_as_much(
    fleet: dict[str, SiteCapacity], matrices: int
) -> None:
    tiles = form_tiles(plan_of(matrices))
    allocation = share_out(fleet, matrices)
    assert set(allocation.tiles_of) | set(allocation.left_out) == set(fleet)
    for site, granted in allocation.tiles_of.items():
        assert granted == tuple(range(len(granted)))
        assert fits(fleet[site], sum(matrices_in(tiles[tile]) for tile in granted))
        if len(granted) < len(tiles):
            assert not fits(fleet[site], sum(matrices_in(tile) for tile in tiles[: len(granted) + 1]))
    for site in allocation.left_out:
        assert not fits(fleet[site], 0)


def fits(site: SiteCapacity, matrices: int) -> bool:
    """The two conditions of a fit, written a second time."""
    job = site.job
    memory = job.ram_loaded_bytes + job.ram_floor_bytes + job.ram_per_matrix_bytes * matrices
    seconds = 10 * (job.step_floor_s + job.step_per_matrix_s * matrices)
    return memory * MEMORY_MARGIN <= site.hardware.ram_limit_bytes and seconds <= DEADLINE_SHARE * 1800


@given(st.floats(100, 4000), st.floats(0, 1000))
def test_more_memory_never_gives_fewer_tiles(limit_mb: float, more_mb: float) -> None:
    allocation = share_out({"a": capacity(limit_mb), "b": capacity(limit_mb + more_mb)})
    small, large = allocation.tiles_of.get(SiteId("a")), allocation.tiles_of.get(SiteId("b"))
    assert small is None or (large is not None and len(large) >= len(small))


def test_halving_the_limit_changes_the_allocation() -> None:
    assert share_out({"a": capacity(1000)}).tiles_of == {"a": tuple(range(12))}
    assert share_out({"a": capacity(500)}).tiles_of == {"a": (0,)}
