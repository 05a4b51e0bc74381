"""Local training on a tiny BERT: it learns, touches nothing it must not, and can be called off."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_jobs import TinyJob, tiny_job, write_rows

from edge_agent.data.batches import deal_batches
from edge_agent.training.outcome import TrainingCancelledError, TrainingOutcome
from edge_agent.training.scoring import score_heads
from edge_agent.training.trainer import StepReport, TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.model import inject, remove
from ravan.adapters.state import ModelState, initial_state
from ravan.data.examples import read_examples
from ravan.data.source import DataSource
from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import EncodedExamples, TaskModel


class Site:
    """A site with its model and data."""

    def __init__(self, root: Path, **training: Any) -> None:
        self.job: TinyJob = tiny_job(root, **training)
        self.plan: JobPlan = self.job.plan
        self.task: TaskModel[Any] = load_task_model(self.job.folder, self.plan.training)
        rows = DataSource(path=write_rows(root / "rows.csv"), name="rows")
        self.data: EncodedExamples = self.task.encode(read_examples(rows, self.plan.training))
        self.state: ModelState = initial_state(self.plan)
        self.reports: list[StepReport] = []
        self.cancelled = threading.Event()
        self.round_number = 1

    def top(self, matrices: int) -> frozenset[BlockId]:
        chosen = {m.ordinal for m in self.plan.matrices[len(self.plan.matrices) - matrices :]}
        return frozenset(self.plan.dense_ids()) | {b for b in self.plan.head_ids() if b.matrix in chosen}

    def train(
        self,
        trained: frozenset[BlockId],
        batches: Iterator[Batch] | None = None,
        scored: frozenset[BlockId] = frozenset(),
    ) -> TrainingOutcome:
        order = TrainingOrder(
            plan=self.plan,
            round_number=self.round_number,
            state=self.state,
            trained=trained,
            bases=drawn_bases(self.plan.adapter),
            held_examples=len(self.data),
            scored=scored,
        )
        return train(
            self.task,
            order,
            self.deal if batches is None else lambda _: batches,
            on_step=self.reports.append,
            cancelled=self.cancelled,
        )

    def deal(self, first: int) -> Iterator[Batch]:
        return deal_batches(self.data, self.plan.training.batch_size, seed=1, first=first)

    def loss(self, state: ModelState) -> float:
        batch = self.data.gather(range(len(self.data)))
        with torch.inference_mode():
            inject(self.task.model, self.plan, state, frozenset(), drawn_bases(self.plan.adapter))
            logits = self.task.model(**batch.inputs).logits
            remove(self.task.model)
        return float(torch.nn.functional.cross_entropy(logits, batch.labels))


def test_the_loss_falls(tmp_path: Path) -> None:
    site = Site(tmp_path)
    update = site.train(site.top(4))
    after = {block: array + update.deltas.get(block, 0) for block, array in site.state.items()}
    assert site.loss(after) < 0.5 * site.loss(site.state)


def test_heads_alone_learn_too(tmp_path: Path) -> None:
    site = Site(tmp_path, dense_learning_rate=0.0)
    dense = site.plan.dense_ids()
    # A fresh classifier is so small that heads below it could hardly be seen.
    site.state = {block: 20 * array if block in dense else array for block, array in site.state.items()}
    update = site.train(site.top(4))
    assert all(not update.deltas[block].any() for block in dense)
    after = {block: array + update.deltas.get(block, 0) for block, array in site.state.items()}
    assert site.loss(after) < 0.9 * site.loss(site.state)


@pytest.mark.parametrize("matrices", [0, 1, 4])
def test_only_allotted_blocks_have_deltas(tmp_path: Path, matrices: int) -> None:
    site = Site(tmp_path)
    trained = site.top(matrices)
    update = site.train(trained)
    assert update.deltas.keys() == trained
    assert all(delta.any() and np.isfinite(delta).all() for delta in update.deltas.values())
    assert all(update.deltas[block].shape == site.state[block].shape for block in trained)


def test_the_base_model_is_bit_for_bit_as_before(tmp_path: Path) -> None:
    site = Site(tmp_path)
    model = site.task.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    site.train(site.top(4))
    after = model.state_dict()
    assert after.keys() == before.keys()
    frozen = [name for name in before if not name.startswith("classifier")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_second_round_starts_from_the_new_state(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=3)
    first = site.train(site.top(4)).deltas
    # The same state and batches again: whatever the first round left in the model must not matter.
    again = site.train(site.top(4)).deltas
    assert all(np.array_equal(first[block], again[block]) for block in first)


@pytest.mark.parametrize(("round_number", "factor"), [(1, 1.0), (3, 0.25)])
def test_one_step_is_torch_s_own_adamw(tmp_path: Path, round_number: int, factor: float) -> None:
    site = Site(tmp_path, steps=1, weight_decay=0.1, learning_rate_decay=0.5)
    site.round_number = round_number
    batch = site.data.gather([0, 5, 2, 3])
    update = site.train(frozenset(site.plan.dense_ids()), iter([batch]))
    weight, bias = (torch.tensor(site.state[block], requires_grad=True) for block in site.plan.dense_ids())
    with torch.no_grad():
        bert: Any = site.task.model.bert
        pooled = bert(**batch.inputs)[1]
    torch.nn.functional.cross_entropy(pooled @ weight.T + bias, batch.labels).backward()  # type: ignore[no-untyped-call]
    for block, parameter in zip(site.plan.dense_ids(), (weight, bias), strict=True):
        gradient = parameter.grad
        assert gradient is not None
        # First step of AdamW: both moments are the gradient's own, so it moves by the learning rate.
        rate = site.plan.training.dense_learning_rate * factor
        expected = -rate * 0.1 * parameter.detach() - rate * gradient / (gradient.abs() + 1e-8)
        np.testing.assert_allclose(update.deltas[block], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_statistics_count_what_was_seen(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=2, learning_rate=0.0, dense_learning_rate=0.0)
    everything = [site.data.gather(range(16)), site.data.gather(range(8))]
    statistics = site.train(site.top(1), iter(everything)).statistics
    assert statistics.examples == 24
    # With rates of zero the model does not move, so the mean loss of the 16 is the model's own.
    per_example = site.loss(site.state)
    assert statistics.loss_sum == pytest.approx(24 * per_example, rel=1e-4)
    assert 0 <= statistics.correct <= 24


def test_heads_are_scored_on_a_batch_of_their_own_and_training_is_as_without(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=3)
    trained, scored = site.top(1), frozenset(site.plan.head_ids())
    first, *others = (site.data.gather(rows) for rows in ((0, 1), (2, 3), (0, 3), (1, 2)))
    without = site.train(trained, iter(others))
    update = site.train(trained, iter([first, *others]), scored)
    assert without.scores == {}
    assert update.scores.keys() == scored
    assert update.statistics == without.statistics
    assert update.deltas.keys() == trained
    assert all(np.array_equal(update.deltas[block], without.deltas[block]) for block in trained)

    def scores(batch: Batch) -> dict[BlockId, float]:
        return score_heads(site.task, site.plan, site.state, scored, drawn_bases(site.plan.adapter), batch)

    assert update.scores == scores(first) != scores(others[0])


def test_progress_and_cost(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=3)
    update = site.train(site.top(2))
    assert [(report.done, report.total) for report in site.reports] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert update.cost == site.reports[-1].cost
    assert update.cost.step_cpu_s > 0


def test_a_cancelled_round_ends_between_steps_and_cleans_up(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=50)
    deal = deal_batches(site.data, 4, seed=1)

    def stop_after_two() -> Iterator[Batch]:
        yield next(deal)
        site.cancelled.set()
        yield next(deal)
        pytest.fail("a step was taken after the cancellation")

    names = [name for name, _ in site.task.model.named_modules()]
    with pytest.raises(TrainingCancelledError):
        site.train(site.top(4), stop_after_two())
    assert [name for name, _ in site.task.model.named_modules()] == names


@pytest.mark.parametrize("scoring", [False, True])
def test_numbers_that_are_not_finite_end_the_training(tmp_path: Path, scoring: bool) -> None:
    site = Site(tmp_path)
    names = [name for name, _ in site.task.model.named_modules()]
    broken = dict(site.state)
    weight = site.plan.dense_ids()[0]
    broken[weight] = np.full_like(broken[weight], np.inf)
    site.state = broken
    with pytest.raises(DataError) as caught:
        site.train(site.top(4), scored=frozenset(site.plan.head_ids()) if scoring else frozenset())
    assert caught.value.reason is ErrorReason.MALFORMED
    assert "learning rate" in caught.value.next_step
    assert [name for name, _ in site.task.model.named_modules()] == names


def test_scales_can_be_fixed(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=4)
    trained = site.top(4)
    with_scales = site.train(trained).deltas
    adapter = dataclasses.replace(site.plan.adapter, train_scales=False)
    site.plan = dataclasses.replace(site.plan, adapter=adapter)
    without = site.train(trained).deltas
    head = site.plan.head_ids()[-1]
    assert not np.array_equal(with_scales[head], without[head])
