"""Train the allotted blocks for the job's number of steps and read off what changed.

The model is in evaluation mode, so without dropout: a few steps a round on a few values do not overfit,
and a round's update then depends on nothing but its batches. So training that was broken off goes on from its last
checkpoint with the same bits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Self

import structlog
import torch
from torch import Tensor
from torch.optim import AdamW

from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.host.gate import CalledOffError, TrainingGate
from edge_agent.training.checkpoint import Checkpoint, CheckpointFile, restore, trained_tensors
from edge_agent.training.lower_part import LowerPart, layers_below
from edge_agent.training.outcome import TrainingCancelledError, TrainingCost, TrainingOutcome, not_finite
from edge_agent.training.scoring import score_heads
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import TrainedParameters, inject, local_deltas, remove, trained_parameters
from ravan.adapters.state import ModelState
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan, TrainingSettings
from ravan.secagg.statistics import LocalStatistics
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """How far training is, and what it cost so far."""

    done: int
    total: int
    cost: TrainingCost


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What to train in a round, and from where."""

    plan: JobPlan
    round_number: int
    state: ModelState
    trained: frozenset[BlockId]
    bases: BasisSource
    held_examples: int
    """Examples in the site's data."""
    room_bytes: int = 0
    """Memory for the outputs of frozen lower layers; 0 where they are not worth keeping."""
    scored: frozenset[BlockId] = frozenset()
    """Heads to score before the first step, on a batch that no step sees."""
    length: int = 0
    """To which batches are padded at least."""
    left: Checkpoint | None = None
    """Where training was broken off."""
    checkpoints: CheckpointFile | None = None
    """Where to write down how far it is."""
    gate: TrainingGate = field(default_factory=TrainingGate, repr=False)
    """Held up at every layer while it is closed."""


@dataclass(slots=True, kw_only=True)
class _Tally:
    examples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    cpu_s: float = 0.0

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Self:
        examples, loss_sum, correct, cpu_s = values
        return cls(examples=int(examples), loss_sum=loss_sum, correct=int(correct), cpu_s=cpu_s)


def train(
    task: TaskModel[Any],
    order: TrainingOrder,
    batches: Callable[[int], Iterator[Batch]],
    *,
    on_step: Callable[[StepReport], None],
    cancelled: threading.Event,
) -> TrainingOutcome:
    """Train what is ordered and return the deltas; the base model is bit for bit as before when this ends.

    `batches` gives the batches from the n-th on. Blocks for as long as it takes. Raise TrainingCancelledError between
    steps or layers once `cancelled` is set, DataError when a loss or gradient is not finite.
    """
    plan, model = order.plan, task.model
    release_unused()
    idle = resident_bytes()
    with PeakMeter() as meter:

        def report(done: int, tally: _Tally) -> TrainingCost:
            cost = TrainingCost(
                extra_peak_bytes=max(0, meter.peak_bytes() - idle), step_cpu_s=tally.cpu_s / max(1, done)
            )
            on_step(StepReport(done=done, total=plan.training.steps, cost=cost))
            return cost

        try:
            with order.gate.guarding(model, cancelled):
                course = _begin(task, order, batches)
                cost = report(course.done, course.tally)
                while course.done < plan.training.steps:
                    if cancelled.is_set():
                        raise TrainingCancelledError
                    course.step(task)
                    _save_if_due(order, course)
                    cost = report(course.done, course.tally)
            deltas = local_deltas(model, plan, order.state, order.trained)
        except CalledOffError as error:
            raise TrainingCancelledError from error
        finally:
            remove(model)
            model.zero_grad(set_to_none=True)
    tally = course.tally
    return TrainingOutcome(
        deltas=deltas,
        statistics=LocalStatistics(examples=tally.examples, loss_sum=tally.loss_sum, correct=tally.correct),
        held_examples=order.held_examples,
        scores=course.scores,
        cost=cost,
    )


@dataclass(slots=True, kw_only=True)
class _Course:
    """Training on its way."""

    optimiser: AdamW
    batches: Iterator[Batch]
    lower: LowerPart | None
    scores: Mapping[BlockId, float]
    done: int = 0
    tally: _Tally = field(default_factory=_Tally)

    def step(self, task: TaskModel[Any]) -> None:
        take_step(task, self.optimiser, next(self.batches), self.tally, self.lower)
        self.done += 1


def _begin(task: TaskModel[Any], order: TrainingOrder, batches: Callable[[int], Iterator[Batch]]) -> _Course:
    """Put the heads in and begin, or go on from the checkpoint."""
    plan, left = order.plan, order.left
    scoring = int(bool(order.scored))
    scores: Mapping[BlockId, float] = {}
    if left is not None and left.scores.keys() == order.scored:
        scores = left.scores
    elif order.scored:
        scores = score_heads(task, plan, order.state, order.scored, order.bases, next(batches(0)))
    inject(task.model, plan, order.state, order.trained, order.bases)
    optimiser = make_optimiser(trained_parameters(task.model, plan), plan.training, order.round_number)
    done, tally = 0, _Tally()
    if left is not None and restore(left, optimiser):
        done, tally = left.done, _Tally.of(left.tally)
        log.info("training goes on", round=order.round_number, done=done, total=plan.training.steps)
    course = _Course(
        optimiser=optimiser,
        batches=batches(done + scoring),
        lower=_lower_part(task, order),
        scores=scores,
        done=done,
        tally=tally,
    )
    if order.checkpoints is not None and not done:
        _save(order.checkpoints, order, course)
    return course


def _save_if_due(order: TrainingOrder, course: _Course) -> None:
    if order.checkpoints is not None and order.checkpoints.is_due():
        _save(order.checkpoints, order, course)


def _save(checkpoints: CheckpointFile, order: TrainingOrder, course: _Course) -> None:
    checkpoints.write(
        Checkpoint(
            done=course.done,
            length=order.length,
            parameters=trained_tensors(course.optimiser),
            optimiser=course.optimiser.state_dict(),
            tally=astuple(course.tally),
            scores=course.scores,
        )
    )


def _lower_part(task: TaskModel[Any], order: TrainingOrder) -> LowerPart | None:
    if not order.room_bytes:
        return None
    layers = layers_below(task.model, order.plan, order.trained)
    return LowerPart(task, layers, order.held_examples, order.room_bytes)


def make_optimiser(parameters: TrainedParameters, training: TrainingSettings, round_number: int) -> AdamW:
    """Return a fresh optimiser with the job's two learning rates as they are in this round."""
    head_rate, dense_rate = training.rates_in(round_number)
    rates = ((parameters.heads, head_rate), (parameters.dense, dense_rate))
    groups = [{"params": list(group), "lr": rate} for group, rate in rates if group]
    return AdamW(groups, weight_decay=training.weight_decay)


def take_step(
    task: TaskModel[Any],
    optimiser: AdamW,
    batch: Batch,
    tally: _Tally | None = None,
    lower: LowerPart | None = None,
) -> None:
    """Do one step of training; raise DataError when it meets NaN or infinity, with nothing applied."""
    started = _cpu_seconds()
    logits: Tensor = task.logits(batch) if lower is None else lower.logits(batch)
    loss = task.losses(logits, batch).mean()
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    value = float(loss.detach())
    if not math.isfinite(value) or not _gradients_finite(optimiser):
        raise not_finite()
    optimiser.step()
    if tally is not None:
        tally.examples += len(batch)
        tally.loss_sum += value * len(batch)
        tally.correct += task.count_correct(logits.detach(), batch)
        tally.cpu_s += _cpu_seconds() - started


def _gradients_finite(optimiser: AdamW) -> bool:
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    return all(bool(gradient.isfinite().all()) for gradient in gradients)


def _cpu_seconds() -> float:
    # With one thread all work is on this one, and the rest of the process does not blur the figure.
    return time.thread_time() if torch.get_num_threads() == 1 else time.process_time()
