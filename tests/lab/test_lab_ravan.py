"""Ravan in the laboratory is the product's: quantised, added up and divided to the same bits; and it is the paper's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_lab import HIDDEN, MATRICES, cohort_of, method_of, tiny_task, weight_in_model

from edge_agent.training.outcome import TrainingOutcome
from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.federation.schedule import Purpose, generator_for
from lab.federation.shard import Shard
from lab.methods.head_only.method import HeadOnly
from lab.methods.headquarters.method import Headquarters
from lab.methods.method import Client
from lab.methods.ravan.method import Ravan
from lab.methods.single_site.method import SingleSite
from ravan.adapters.state import ModelState
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import BasisKind

UNEQUAL: dict[str, Any] = {"clients": 4, "per_round": 4, "capacities": Capacities.UNIFORM}
"""A quarter, a half, three quarters and all: of four tiles, one matrix each, a client of depth d has the upper d."""


def ravan(**changes: Any) -> Ravan:
    return cast(Ravan, method_of("ravan", **changes))


def heads_of(method: Ravan, matrix: int) -> list[BlockId]:
    return [block for block in method.plan.head_ids() if block.matrix == matrix]


def randomise(method: Ravan) -> None:
    """Put the method into a state with something in every head."""
    generator = np.random.default_rng(5)
    method.state = {
        block: (value + 0.1 * generator.standard_normal(value.shape)).astype(np.float32)
        for block, value in method.state.items()
    }


def play_watched(method: Ravan, round_number: int) -> dict[int, TrainingOutcome]:
    """Play a round and return what each client sent, by its index."""
    outcomes: dict[int, TrainingOutcome] = {}
    train_one = method.train_one

    def watched(client: Client, round_number: int, trained: frozenset[BlockId]) -> TrainingOutcome:
        outcomes[client.index] = train_one(client, round_number, trained)
        return outcomes[client.index]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "train_one", watched)
        method.play(round_number, cohort_of(method.bench, round_number))
    return outcomes


def quantised(delta: NDArray[Any], clip: float, limit: int, rounding: np.random.Generator) -> NDArray[np.int64]:
    flat = delta.ravel()
    norm = math.sqrt(math.fsum(float(value) ** 2 for value in flat))
    scale = (clip / norm if norm > clip else 1.0) * (limit / clip)
    whole = np.floor(flat.astype(np.float64) * scale + rounding.random(flat.size)).astype(np.int64)
    return np.clip(whole, -limit, limit)


def combined_by_hand(
    method: Ravan, before: ModelState, outcomes: dict[int, TrainingOutcome], *, clip: float, bits: int, cohort: bool
) -> dict[BlockId, NDArray[np.float32]]:
    """Return the next state from the clients' deltas: clip, round at random, add whole numbers, divide once."""
    limit = ((1 << bits - 1) - 1) // len(outcomes)
    trainers = {block: tuple(c for c, o in outcomes.items() if block in o.deltas) for block in before}
    sums = {block: np.zeros(value.size, np.int64) for block, value in before.items()}
    for client, outcome in outcomes.items():
        rounding = generator_for(method.bench.cell.seed, Purpose.ROUNDING, 1, client)
        # Blocks of one cohort travel together: the classifier first, then cohorts as the block list brings them.
        dense = [block for block in before if block.kind is BlockKind.DENSE]
        cohorts = dict.fromkeys(trainers[block] for block in method.plan.head_ids() if trainers[block])
        heads = [b for group in cohorts for b in method.plan.head_ids() if trainers[b] == group]
        for block in (*dense, *heads):
            if client in trainers[block]:
                sums[block] += quantised(outcome.deltas[block], clip, limit, rounding)
    after = {}
    for block, value in before.items():
        divisor = len(outcomes) if cohort else len(trainers[block])
        if trainers[block]:
            mean = (sums[block] * clip / (limit * divisor)).reshape(value.shape)
            after[block] = (value.astype(np.float64) + mean).astype(np.float32)
        else:
            after[block] = value
    return after


@pytest.mark.parametrize(
    ("options", "clip", "bits"),
    [
        ({}, 8.0, 24),
        ({"federation": UNEQUAL}, 8.0, 24),
        ({"federation": UNEQUAL, "denominator": "cohort"}, 8.0, 24),
        ({"clip": 0.25, "ring_bits": 16}, 0.25, 16),
        ({"ring_bits": 32, "basis": "normal", "train_scales": False}, 8.0, 32),
    ],
    ids=str,
)
def test_a_round_is_bit_for_bit_what_whole_numbers_give(options: dict[str, Any], clip: float, bits: int) -> None:
    method = ravan(**options)
    randomise(method)
    before = dict(method.state)
    outcomes = play_watched(method, 1)
    cohort = options.get("denominator") == "cohort"
    expected = combined_by_hand(method, before, outcomes, clip=clip, bits=bits, cohort=cohort)
    assert method.state.keys() == expected.keys()
    for block, value in expected.items():
        assert np.array_equal(method.state[block], value), block
        assert not np.array_equal(value, before[block])


def test_a_head_becomes_the_mean_of_its_trainers_products() -> None:
    """Paper, equation 8, within the step of the fixed point numbers."""
    method = ravan(federation=UNEQUAL)
    randomise(method)
    before = dict(method.state)
    outcomes = play_watched(method, 1)
    step = 8.0 / ((2**23 - 1) // 4)
    trained_by = []
    for block in method.plan.head_ids():
        products = [before[block] + o.deltas[block] for o in outcomes.values() if block in o.deltas]
        trained_by.append(len(products))
        assert method.state[block] == pytest.approx(np.mean(products, axis=0), abs=2 * step)
        assert np.abs(method.state[block] - before[block]).max() > 100 * step
    # One head of four matrices each, bottom to top: only the strongest reaches the lowest.
    assert trained_by == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_weighted_clients_count_by_their_examples() -> None:
    federation = {"split": Split.DIRICHLET, "clients": 3, "per_round": 3, "alpha": 0.3}
    method = ravan(weighted=True, seed=4, federation=federation)
    before, shards = dict(method.state), method.bench.shards
    outcomes = play_watched(method, 1)
    weights = {index: math.ceil(len(shards[index]) / 16) for index in outcomes}
    assert sorted(weights.values()) == [1, 1, 3]
    # A step of the grid, over the share of the largest weights (255) that these are.
    step = 8.0 / (((1 << 23) - 1) // 3) * 3 * 255 / 5
    for block, value in before.items():
        total = sum(weights[index] * outcome.deltas[block].astype(np.float64) for index, outcome in outcomes.items())
        expected = value + total / 5
        assert np.allclose(method.state[block], expected, atol=step)
        assert not np.allclose(method.state[block], value, atol=3 * step)


def test_what_a_client_sends_is_its_scale_times_its_core_minus_what_it_was_given() -> None:
    """Paper, step 5, by the weight itself: B (s H) A is what the client's layer adds."""
    method = ravan(federation={"clients": 1, "per_round": 1})
    randomise(method)
    play_watched(method, 1)
    with method.installed():
        effective = weight_in_model(MATRICES[2])
    base = weight_in_model(MATRICES[2])
    basis = method.bases(method.plan.matrices[2])
    update = np.zeros((HIDDEN, HIDDEN))
    for i, block in enumerate(heads_of(method, 2)):
        update += basis.b[i].astype(np.float64) @ method.state[block].astype(np.float64) @ basis.a[i]
    assert effective - base == pytest.approx(update, abs=1e-5)


def test_heads_below_the_threshold_are_trained_by_nobody_and_keep_their_value() -> None:
    method = ravan(federation=UNEQUAL, threshold=3)
    randomise(method)
    before = dict(method.state)
    outcomes = play_watched(method, 1)
    for matrix in (0, 1):
        for block in heads_of(method, matrix):
            assert np.array_equal(method.state[block], before[block])
            assert not any(block in outcome.deltas for outcome in outcomes.values())
    for matrix, trainers in ((2, 3), (3, 4)):
        for block in heads_of(method, matrix):
            assert sum(block in outcome.deltas for outcome in outcomes.values()) == trainers
            assert not np.array_equal(method.state[block], before[block])


@pytest.mark.parametrize(("steps", "same"), [(1, True), (2, False)])
def test_trained_scales_change_what_is_sent_once_there_is_a_core_to_scale(steps: int, same: bool) -> None:
    """From H = 0 the first step moves H alone: the gradient of s is <H, ...> = 0."""
    one, other = (play_watched(ravan(train_scales=trained, steps=steps), 1) for trained in (False, True))
    for client, outcome in one.items():
        heads = [block for block in outcome.deltas if block.kind is BlockKind.HEAD]
        equal = [np.array_equal(outcome.deltas[block], other[client].deltas[block]) for block in heads]
        assert all(equal) if same else not any(equal)


@pytest.mark.parametrize("basis", list(BasisKind))
def test_every_kind_of_basis_is_played(basis: BasisKind) -> None:
    method = ravan(basis=basis.value, heads=2)
    play_watched(method, 1)
    drawn = method.bases(method.plan.matrices[0])
    columns = np.concatenate(list(drawn.b), axis=1)
    orthonormal = np.allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-5)
    assert orthonormal == (basis in {BasisKind.ALIGNED, BasisKind.GRAM_SCHMIDT})
    assert np.array_equal(drawn.b[0], drawn.b[1]) == (basis is BasisKind.CONSTANT)
    rank = np.linalg.matrix_rank(columns, tol=1e-3)
    assert (rank == columns.shape[1]) == (basis not in {BasisKind.SHARED, BasisKind.CONSTANT})


def test_a_clip_that_binds_everybody_grows() -> None:
    method = ravan(clip=0.001, federation={"clients": 1, "per_round": 1})
    for number in (1, 2):
        before = dict(method.state)
        outcomes = play_watched(method, number)
        for block in method.plan.head_ids():
            assert min(float(np.linalg.norm(o.deltas[block])) for o in outcomes.values()) > 0.0015
            moved = float(np.linalg.norm(method.state[block] - before[block]))
            assert moved == pytest.approx(0.001 * 1.5 ** (number - 1), rel=1e-3)


def test_head_only_has_no_heads_and_trains_the_classifier() -> None:
    method = cast(HeadOnly, method_of("head_only", federation=UNEQUAL))
    before = dict(method.state)
    outcomes = play_watched(method, 1)
    assert method.plan.head_ids() == ()
    assert all(outcome.deltas.keys() == set(method.plan.dense_ids()) for outcome in outcomes.values())
    for block in method.plan.dense_ids():
        mean = np.mean([outcome.deltas[block] for outcome in outcomes.values()], axis=0)
        assert method.state[block] - before[block] == pytest.approx(mean, abs=1e-5)
        assert mean.any()


def test_sites_on_their_own_never_learn_from_each_other() -> None:
    together = cast(SingleSite, method_of("single_site", federation={"clients": 2, "per_round": 2}))
    alone = [cast(SingleSite, method_of("single_site", federation={"clients": 2, "per_round": 2})) for _ in range(2)]
    for number in (1, 2):
        cohort = cohort_of(together.bench, number)
        together.play(number, cohort)
        # Which leaves another site's model in place.
        together.evaluate(tiny_task().validation)
        for method, client in zip(alone, cohort, strict=True):
            method.play(number, [client])
    scores = [method.evaluate(tiny_task().test) for method in alone]
    both = together.evaluate(tiny_task().test)
    assert scores[0].loss != scores[1].loss
    assert both.loss == pytest.approx((scores[0].loss + scores[1].loss) / 2, rel=1e-12)
    assert both.accuracy == pytest.approx((scores[0].accuracy + scores[1].accuracy) / 2, rel=1e-12)


def test_sites_on_their_own_wait_for_no_turn() -> None:
    method = method_of("single_site", federation={"clients": 3, "per_round": 1})
    assert [client.index for client in method.cohort(1)] == [0, 1, 2]
    # with the batches of the round
    assert method.cohort(2)[0].batch_seed == method.bench.client(0, 2).batch_seed != method.cohort(1)[0].batch_seed
    drawn = method_of("head_only", federation={"clients": 3, "per_round": 1})
    assert [client.index for client in drawn.cohort(1)] == list(drawn.bench.schedule.cohort(1))


def test_a_site_on_its_own_goes_on_from_where_it_was() -> None:
    federation = {"clients": 1, "per_round": 1}
    one, other = (cast(SingleSite, method_of("single_site", federation=federation)) for _ in range(2))
    one.play(1, cohort_of(one.bench, 1))
    for method in (one, other):
        method.play(2, cohort_of(method.bench, 2))
    assert one.evaluate(tiny_task().test).loss != other.evaluate(tiny_task().test).loss


def test_headquarters_learns_from_its_own_examples_whatever_the_clients_have() -> None:
    federation: dict[str, Any] = {"clients": 3, "per_round": 2}
    first, second = (
        cast(Headquarters, method_of("headquarters", federation={**federation, "split": split}))
        for split in (Split.IID, Split.DIRICHLET)
    )
    cohorts = [cohort_of(method.bench) for method in (first, second)]
    assert not np.array_equal(cohorts[0][0].shard.rows, cohorts[1][0].shard.rows)
    for method, cohort in zip((first, second), cohorts, strict=True):
        method.play(1, cohort)
    assert all(np.array_equal(value, second.state[block]) for block, value in first.state.items())
    # One client that holds the same examples and takes the same turns comes to the same.
    alone = method_of("single_site", federation=federation)
    held_out = Shard(whole=tiny_task().validation, rows=np.arange(12))
    for turn in cohort_of(alone.bench, 1):
        alone.play(1, [replace(turn, index=0, shard=held_out)])
    assert first.evaluate(tiny_task().test).loss == alone.evaluate(tiny_task().test).loss
    assert first.ledger.uploaded == 0


def test_a_site_on_its_own_trains_all_heads_whatever_its_capacity() -> None:
    method = cast(SingleSite, method_of("single_site", federation=UNEQUAL))
    outcomes = play_watched(method, 1)
    everything = set(method.plan.head_ids()) | set(method.plan.dense_ids())
    assert all(outcome.deltas.keys() == everything for outcome in outcomes.values())
    assert method.ledger.uploaded == method.ledger.downloaded == 0
