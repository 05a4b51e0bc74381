"""What follows from the seed alone, so that methods can be compared pair by pair."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lab import CELL, bench_of, cell_of, cohort_of, method_of, tiny_task

from edge_agent.data.batches import deal_batches
from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.federation.schedule import Schedule
from lab.federation.shard import Shard
from lab.methods.dense import first_dense
from lab.methods.method import Client
from lab.methods.registry import METHODS
from lab.simulation import play_cell
from ravan.adapters.draws import draw_normals
from ravan.tasks.batch import Batch

SKEWED: dict[str, Any] = {
    "split": Split.DIRICHLET,
    "clients": 4,
    "per_round": 2,
    "capacities": Capacities.UNIFORM,
    "alpha": 1.0,
}


def batches_seen(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Return the token ids of every batch that a method trains on in its first round."""
    seen: list[list[list[int]]] = []
    task = tiny_task().task
    logits = task.logits

    def watched(batch: Batch) -> torch.Tensor:
        seen.append(batch.inputs["input_ids"].tolist())
        return logits(batch)

    with monkeypatch.context() as patch:
        patch.setattr(task, "logits", watched)
        method = method_of(name, seed=seed, federation=SKEWED)
        method.play(1, cohort_of(method.bench))
    return seen


def test_all_methods_meet_the_same_clients_with_the_same_batches_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of(seed=1, federation=SKEWED)

    def dealt(shard_of: Callable[[Client], Shard]) -> list[list[list[int]]]:
        return [
            batch.inputs["input_ids"].tolist()
            for client in cohort_of(bench)
            for batch in islice(deal_batches(shard_of(client), 4, client.batch_seed), 2)
        ]

    expected = dealt(lambda client: client.shard)
    seen = {name: batches_seen(name, 1, monkeypatch) for name in METHODS}
    # It looks at gradients first, over batches of which nothing is learnt.
    looked_at = seen.pop("moving_ravan")
    assert looked_at[-len(expected) :] == expected
    assert len(looked_at) == len(expected) + 4 * len(cohort_of(bench))
    assert seen.pop("headquarters") == dealt(lambda _: tiny_task().held_out)
    assert seen == dict.fromkeys(METHODS.keys() - {"moving_ravan", "headquarters"}, expected)
    assert batches_seen("fedit", 2, monkeypatch) != expected


def facts(seed: int, method: str = "ravan") -> tuple[Any, ...]:
    bench = bench_of(method, seed=seed, federation=SKEWED)
    return (
        tuple(tuple(shard.rows.tolist()) for shard in bench.shards),
        bench.capacities,
        tuple(bench.schedule.cohort(number) for number in range(1, 9)),
        tuple(bench.client(index, 3).batch_seed for index in range(4)),
        bench.adapter_seed,
    )


def test_a_seed_gives_the_same_federation_to_every_method() -> None:
    assert {facts(1, name) for name in METHODS} == {facts(1)}


def test_seeds_differ_in_all_that_is_drawn() -> None:
    drawn = [facts(seed) for seed in range(6)]
    assert [len(set(values)) for values in zip(*drawn, strict=True)][0::2] == [6, 6, 6]
    assert len({values[1] for values in drawn}) > 1
    assert len({values[3] for values in drawn}) == 6


def test_cohorts_are_distinct_clients_ascending_and_all_get_their_turn() -> None:
    schedule = Schedule(seed=3, clients=10, per_round=3)
    cohorts = [schedule.cohort(number) for number in range(1, 201)]
    assert all(len(set(cohort)) == 3 and list(cohort) == sorted(cohort) for cohort in cohorts)
    turns = np.bincount(np.concatenate([np.asarray(cohort) for cohort in cohorts]), minlength=10)
    # 60 of 200 are expected, with a standard deviation of 6.5.
    assert turns.min() > 35
    assert turns.max() < 85
    assert schedule.cohort(7) == Schedule(seed=3, clients=10, per_round=3).cohort(7)


def test_a_client_deals_its_examples_otherwise_in_every_round() -> None:
    schedule = Schedule(seed=3, clients=10, per_round=3)
    seeds = {schedule.batch_seed(client, number) for client in range(10) for number in range(1, 11)}
    assert len(seeds) == 100


def classifier_of(name: str) -> Iterator[torch.Tensor]:
    method = method_of(name, seed=5)
    with method.installed():
        for parameter, _ in tiny_task().task.new_parameters:
            yield tiny_task().task.model.get_parameter(parameter).detach().clone()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "single_site"])
def test_all_methods_begin_with_the_classifier_of_the_product(name: str) -> None:
    bench = bench_of(seed=5)
    context = struct.pack(">3I", 0, 3, 16)
    weight = draw_normals(bench.adapter_seed, b"ravan/dense/v1", context, (3, 16)) * 0.02
    mine, bias = classifier_of(name)
    assert torch.equal(mine, torch.from_numpy(weight.astype(np.float32)))
    assert torch.equal(bias, torch.zeros(3))


def test_other_seeds_have_other_classifiers() -> None:
    first = [first_dense(bench_of(seed=seed))["classifier.weight"] for seed in (1, 2)]
    assert not torch.equal(*first)


@pytest.mark.parametrize("name", ["ravan", "fedit", "fed_svd"])
def test_equal_cells_come_out_equal(name: str) -> None:
    one, other = (play_cell(cell_of(name, federation=SKEWED), tiny_task()) for _ in range(2))
    assert (one.key, one.accuracy, one.loss, one.curve) == (other.key, other.accuracy, other.loss, other.curve)
    assert CELL.key != one.key
