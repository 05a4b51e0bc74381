"""Which heads each client trains, by each way of alloting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_plans import plan_of
from tiny_lab import bench_of

from lab.federation.capacity import SHARES
from lab.methods.method import Client
from lab.methods.ravan.allotment import Allotment, allot
from ravan.adapters.state import ModelState, initial_state
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan


def clients_of(capacities: list[float]) -> list[Client]:
    shard = bench_of().shards[0]
    return [Client(index=i, shard=shard, capacity=share, batch_seed=0) for i, share in enumerate(capacities)]


def heads_by_client(
    plan: JobPlan,
    capacities: list[float],
    kind: Allotment,
    *,
    threshold: int = 1,
    round_number: int = 1,
    state: ModelState | None = None,
) -> dict[int, frozenset[BlockId]]:
    state = state or initial_state(plan)
    tiles, tiles_of = allot(
        plan, clients_of(capacities), state, kind=kind, threshold=threshold, round_number=round_number
    )
    assert sorted(block for tile in tiles for block in tile.blocks) == sorted(plan.head_ids())
    return {c: frozenset(b for i in mine for b in tiles[i].blocks) for c, mine in tiles_of.items()}


@settings(deadline=None)
@given(
    heads=st.integers(1, 9),
    capacities=st.lists(st.sampled_from(SHARES), min_size=1, max_size=8),
    round_number=st.integers(1, 5000),
)
def test_equal_counts_are_the_papers_floor_in_every_matrix(
    heads: int, capacities: list[float], round_number: int
) -> None:
    plan = plan_of(5, heads=heads)
    chosen = heads_by_client(plan, capacities, Allotment.EQUAL_COUNT, round_number=round_number)
    for client, share in enumerate(capacities):
        wanted = max(1, int(share * 4) * heads // 4)
        by_matrix = [{b.index for b in chosen[client] if b.matrix == matrix} for matrix in range(5)]
        assert [len(indices) for indices in by_matrix] == [wanted] * 5
        assert all(indices == by_matrix[0] for indices in by_matrix)


def test_leading_heads_are_the_first_ones_of_every_matrix_in_every_round() -> None:
    plan = plan_of(3, heads=8)
    for round_number in (1, 2, 9):
        chosen = heads_by_client(plan, [0.25, 0.5, 1.0], Allotment.LEADING, round_number=round_number)
        for client, count in enumerate((2, 4, 8)):
            assert {(b.matrix, b.index) for b in chosen[client]} == {(m, i) for m in range(3) for i in range(count)}


def test_equal_counts_are_others_for_each_client_and_in_each_round() -> None:
    plan, half = plan_of(3, heads=8), [0.5] * 6
    rounds = [heads_by_client(plan, half, Allotment.EQUAL_COUNT, round_number=number) for number in range(1, 7)]
    assert all(len(set(chosen.values())) >= 5 for chosen in rounds)
    for client in range(6):
        assert len({chosen[client] for chosen in rounds}) >= 5
    # Over clients and rounds every head gets its turn about equally often: 36 draws of 4 in 8.
    turns = np.bincount([b.index for chosen in rounds for mine in chosen.values() for b in mine if b.matrix == 0])
    assert len(turns) == 8
    assert turns.min() >= 9
    assert turns.max() <= 27


@settings(deadline=None)
@given(
    kind=st.sampled_from(Allotment),
    capacities=st.lists(st.sampled_from(SHARES), min_size=1, max_size=8),
    threshold=st.integers(1, 4),
    round_number=st.integers(1, 100),
)
def test_a_head_has_enough_trainers_or_none_and_nobody_more_than_it_can_hold(
    kind: Allotment, capacities: list[float], threshold: int, round_number: int
) -> None:
    plan = plan_of(8, heads=4)
    chosen = heads_by_client(plan, capacities, kind, threshold=threshold, round_number=round_number)
    holders = [sum(block in mine for mine in chosen.values()) for block in plan.head_ids()]
    assert all(count == 0 or count >= threshold for count in holders)
    for client, share in enumerate(capacities):
        assert len(chosen[client]) <= share * len(plan.head_ids())
    if threshold == 1:
        assert [len(chosen[c]) for c, share in enumerate(capacities)] == [int(32 * share) for share in capacities]


def test_from_the_top_is_the_uppermost_matrices() -> None:
    chosen = heads_by_client(plan_of(8, heads=2), [0.25, 0.75], Allotment.TOP)
    assert {b.matrix for b in chosen[0]} == {6, 7}
    assert {b.matrix for b in chosen[1]} == {2, 3, 4, 5, 6, 7}


def test_by_weight_is_the_matrices_that_have_moved_furthest() -> None:
    plan = plan_of(4, heads=2)
    # Means of the two heads' norms: 5, 3.5, 6 and 1; the largest single head belongs to the second.
    sizes = {0: (5.0, 5.0), 1: (6.5, -0.5), 2: (6.0, 6.0), 3: (1.0, 1.0)}
    state = {b: np.diag([sizes[b.matrix][b.index], 0, 0]).astype(np.float32) for b in plan.head_ids()}
    chosen = heads_by_client(plan, [0.5, 0.25], Allotment.WEIGHT, state=state)
    assert {b.matrix for b in chosen[0]} == {0, 2}
    assert {b.matrix for b in chosen[1]} == {2}


def test_at_random_is_others_in_each_round_and_the_weak_have_a_part_of_what_the_strong_have() -> None:
    plan, seen = plan_of(8, heads=2), set()
    for number in range(1, 7):
        chosen = heads_by_client(plan, [0.25, 0.5, 1.0], Allotment.RANDOM, round_number=number)
        assert chosen[0] < chosen[1] < chosen[2]
        seen.add(chosen[0])
    assert len(seen) >= 4


@pytest.mark.parametrize("kind", list(Allotment))
def test_a_job_without_heads_gives_nobody_any(kind: Allotment) -> None:
    plan = plan_of(0, heads=0)
    _, tiles_of = allot(plan, clients_of([0.25, 1.0]), {}, kind=kind, threshold=1, round_number=1)
    assert tiles_of == {0: (), 1: ()}
