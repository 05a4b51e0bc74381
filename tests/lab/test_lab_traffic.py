"""Bytes of each method in a small case, counted by hand from shapes.

Four matrices of 16 x 16 are adapted, the classifier has 3 x 16 + 3 = 51 numbers, and the budget is LoRA of rank 2:
(16 + 16) x 2 = 64 numbers a matrix. A number is sent up in 3 bytes where a sum is all it takes, else in 4; down in 4.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from tiny_lab import DENSE_NUMBERS, HIDDEN, bench_of, cell_of, cohort_of, method_of, tiny_task

from lab.federation.capacity import Capacities
from lab.methods.method import Method
from lab.methods.ravan.method import Ravan
from lab.simulation import play_cell

SIDE, DENSE, MATRICES = 16, 51, 4
SQUARE = SIDE * SIDE
LAYER = 4 * (SQUARE + 16) + 2 * 24 * 16 + 24 + 16 + 4 * 16
"""Attention, feed-forward, two norms."""
EVERYTHING = (15 + 32 + 2) * 16 + 2 * 16 + 2 * LAYER + SQUARE + 16
"""Words, positions and types, their norm, two layers, the pooler."""


def test_the_case_is_what_the_sums_below_take_it_for() -> None:
    assert (HIDDEN, DENSE_NUMBERS) == (SIDE, DENSE)
    new = {name for name, _ in tiny_task().task.new_parameters}
    counts = {name: p.numel() for name, p in tiny_task().task.model.named_parameters()}
    assert sum(counts[name] for name in new) == DENSE
    assert sum(count for name, count in counts.items() if name not in new) == EVERYTHING


ONE_CLIENT_TWO_ROUNDS = {
    # Four heads of 4 x 4 are 64 numbers a matrix; up and down the same.
    "ravan": (2 * 3 * (4 * 64 + DENSE), 2 * 4 * (4 * 64 + DENSE)),
    # And in the first round two sketches of 16 directions, 16 x 16 and 25 x 16, which give 16 directions of both sides;
    # heads of new bases are zero, which nobody has to be sent.
    "moving_ravan": (
        2 * 3 * (4 * 64 + DENSE) + 3 * 4 * (16 + 25) * 16,
        4 * DENSE + 4 * (4 * 64 + DENSE) + 4 * 4 * 2 * 16 * 16,
    ),
    "head_only": (2 * 3 * DENSE, 2 * 4 * DENSE),
    "single_site": (0, 0),
    "headquarters": (0, 0),
    "fedit": (2 * 3 * (4 * 64 + DENSE), 2 * 4 * (4 * 64 + DENSE)),
    # B of rank 4; A follows from the seed.
    "ffa_lora": (2 * 3 * (4 * 64 + DENSE), 2 * 4 * (4 * 64 + DENSE)),
    # B of rank 4 up, both factors down.
    "fed_svd": (2 * 3 * (4 * 64 + DENSE), 2 * 4 * (4 * 128 + DENSE)),
    # One factor of rank 4 up, in turns, and both down.
    "alternating": (2 * 3 * (4 * 64 + DENSE), 2 * 4 * (4 * 128 + DENSE)),
    # Read one by one; one client has no residual.
    "fedex_lora": (2 * 4 * (4 * 64 + DENSE), 2 * 4 * (4 * 64 + DENSE)),
    # Down: nothing but the classifier at first, then the stack of one.
    "flora": (2 * 4 * (4 * 64 + DENSE), 4 * DENSE + 4 * (4 * 64 + DENSE)),
    # And the weight.
    "het_lora": (2 * 3 * (4 * 64 + DENSE + 1), 2 * 4 * (4 * 64 + DENSE)),
    "flex_lora": (2 * 4 * (4 * 64 + DENSE), 2 * 4 * (4 * 64 + DENSE)),
    # Whole matrices first, then bases (16 x 8 twice) to the one client there is, then cores of 8 x 8.
    "fed_sb": (3 * (4 * SQUARE + DENSE) + 3 * (4 * 64 + DENSE), 4 * DENSE + 4 * 4 * 256 + 4 * (4 * 64 + DENSE)),
    "full": (2 * 3 * (EVERYTHING + DENSE), 2 * 4 * (EVERYTHING + DENSE)),
}


@pytest.mark.parametrize("name", list(ONE_CLIENT_TWO_ROUNDS))
def test_one_client_in_two_rounds(name: str) -> None:
    outcome = play_cell(cell_of(name, federation={"clients": 1, "per_round": 1}), tiny_task())
    assert (outcome.uploaded, outcome.downloaded) == ONE_CLIENT_TWO_ROUNDS[name]


@pytest.mark.parametrize("name", ["headquarters", "single_site"])
def test_bases_are_sent_to_nobody_where_nobody_trains_together(name: str) -> None:
    outcome = play_cell(cell_of(name, basis="aligned"), tiny_task())
    assert (outcome.uploaded, outcome.downloaded) == (0, 0)


@pytest.mark.parametrize("name", ["ravan", "alternating", "fedit", "ffa_lora", "fed_svd"])
def test_methods_whose_sums_are_enough_send_the_same_bytes_up(name: str) -> None:
    three = play_cell(cell_of(name), tiny_task())
    assert three.uploaded == 3 * 2 * 3 * (4 * 64 + DENSE)


def test_heads_have_no_more_numbers_than_the_budget() -> None:
    for heads, rank in ((1, 8), (2, 5), (3, 4), (4, 4), (5, 3)):
        method = cast(Ravan, method_of("ravan", heads=heads))
        assert [method.plan.adapter.for_matrix(matrix).rank for matrix in method.plan.matrices] == [rank] * 4
        assert heads * rank**2 <= 64 < heads * (rank + 1) ** 2 or rank == SIDE // heads


@pytest.mark.parametrize(("heads", "share", "rank"), [(1, 0.5, 5), (1, 0.25, 4), (2, 0.5, 4), (4, 0.01, 1)])
def test_heads_take_no_more_than_their_share_of_the_budget(heads: int, share: float, rank: int) -> None:
    method = cast(Ravan, method_of("ravan", heads=heads, share=share))
    assert [method.plan.adapter.for_matrix(matrix).rank for matrix in method.plan.matrices] == [rank] * 4
    assert heads * rank**2 <= 64 * share or rank == 1


@pytest.mark.parametrize(("bits", "width"), [(16, 2), (24, 3), (32, 4)])
def test_a_wider_ring_costs_wider_uploads(bits: int, width: int) -> None:
    outcome = play_cell(cell_of(ring_bits=bits), tiny_task())
    assert outcome.uploaded == 3 * 2 * width * (4 * 64 + DENSE)


UNEQUAL: dict[str, Any] = {"clients": 4, "per_round": 4, "capacities": Capacities.UNIFORM}


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        # Of four matrices the clients train 1, 2, 3 and 4, and fetch all. Four orthogonal heads have rank 4 at most.
        ("ravan", 3 * ((1 + 2 + 3 + 4) * 64 + 4 * DENSE), 4 * 4 * (4 * 64 + DENSE)),
        # Ranks 2, 4, 6 and 8 of 8: 32 numbers a rank and matrix.
        ("het_lora", 3 * ((2 + 4 + 6 + 8) * 4 * 32 + 4 * (DENSE + 1)), 4 * ((2 + 4 + 6 + 8) * 4 * 32 + 4 * DENSE)),
        ("flex_lora", 4 * ((2 + 4 + 6 + 8) * 4 * 32 + 4 * DENSE), 4 * ((2 + 4 + 6 + 8) * 4 * 32 + 4 * DENSE)),
        ("flora", 4 * ((2 + 4 + 6 + 8) * 4 * 32 + 4 * DENSE), 4 * 4 * DENSE),
        # The weakest's rank for all.
        ("fedit", 3 * 4 * (2 * 4 * 32 + DENSE), 4 * 4 * (2 * 4 * 32 + DENSE)),
        ("ffa_lora", 3 * 4 * (4 * 4 * 16 + DENSE), 4 * 4 * (4 * 4 * 16 + DENSE)),
    ],
)
def test_unequal_clients_in_one_round(name: str, up: int, down: int) -> None:
    outcome = play_cell(cell_of(name, rounds=1, lora_rank=8, federation=UNEQUAL), tiny_task())
    assert (outcome.uploaded, outcome.downloaded) == (up, down)


def test_a_dropped_head_is_not_sent() -> None:
    outcome = play_cell(cell_of(rounds=1, lora_rank=8, threshold=3, federation=UNEQUAL), tiny_task())
    # The upper matrix by four, the next by three, the others by fewer than three and so by nobody.
    assert outcome.uploaded == 3 * ((4 + 3) * 64 + 4 * DENSE)


def downloads(method: Method, rounds: int) -> list[tuple[int, ...]]:
    """Play rounds one client at a time as far as bytes go: return the cohort of each."""
    cohorts = []
    for number in range(1, rounds + 1):
        cohort = cohort_of(method.bench, number)
        method.play(number, cohort)
        cohorts.append(tuple(client.index for client in cohort))
    return cohorts


@pytest.mark.parametrize(("name", "rank_a_round"), [("fedex_lora", 2), ("flora", 4)])
def test_who_was_away_is_sent_what_was_merged_meanwhile(name: str, rank_a_round: int) -> None:
    """Two clients of rank 2 a round: FLoRA stacks both; of FedEx-LoRA's residual one follows from the other."""
    method = method_of(name, federation={"clients": 6, "per_round": 2})
    cohorts, expected, known = downloads(method, 8), 0, dict.fromkeys(range(6), 0)
    for merged, cohort in enumerate(cohorts):
        for client in cohort:
            stack = (merged - known[client]) * rank_a_round * (SIDE + SIDE)
            own = 64 if name == "fedex_lora" else 0
            expected += 4 * (MATRICES * (min(stack, SQUARE) + own) + DENSE)
            known[client] = merged
    assert method.ledger.downloaded == expected
    # The case has both: somebody who came back at once, and somebody who had missed more than a dense matrix holds.
    gaps = [len(cohorts), *(b - a for c in range(6) for a, b in _pairs([i for i, s in enumerate(cohorts) if c in s]))]
    assert min(gaps) == 1
    assert max(known.values()) > SQUARE // (rank_a_round * 32)


def _pairs(values: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(values))


def test_fed_sb_sends_its_bases_to_the_whole_fleet() -> None:
    method = method_of("fed_sb", federation={"clients": 6, "per_round": 2})
    method.play(1, cohort_of(method.bench))
    assert method.ledger.uploaded == 2 * 3 * (4 * SQUARE + DENSE)
    assert method.ledger.downloaded == 2 * 4 * DENSE + 6 * 4 * 4 * 256


def test_the_weakest_bounds_methods_of_one_size() -> None:
    assert bench_of(federation=UNEQUAL).weakest == 0.25
    assert bench_of().weakest == 1.0


def test_who_was_away_is_sent_the_last_cores_of_the_bases_that_it_missed() -> None:
    """Bases move in each round: a client folds the cores of all rounds since its last one, and opens heads of zeros."""
    method = method_of("moving_ravan", move="random", every=1, federation={"clients": 6, "per_round": 2})
    cohorts, expected, known = downloads(method, 8), 0, dict.fromkeys(range(6), 0)
    for played, cohort in enumerate(cohorts):
        for client in cohort:
            expected += 4 * (DENSE + 4 * 64 * (played - known[client]))
            known[client] = played
    assert method.ledger.downloaded == expected
