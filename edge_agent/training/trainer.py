"""Train the allotted blocks for the job's number of steps and read off what changed.

The model is in evaluation mode, so without dropout: a few steps a round on a few values do not overfit,
and a round's update then depends on nothing but its batches.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.lower_part import LowerPart, layers_below
from edge_agent.training.outcome import TrainingCost, TrainingOutcome, not_finite
from edge_agent.training.scoring import score_heads
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import TrainedParameters, inject, local_deltas, remove, trained_parameters
from ravan.adapters.state import ModelState
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan, TrainingSettings
from ravan.secagg.statistics import LocalStatistics
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel


class TrainingCancelledError(Exception):
    """The round was given up while it trained."""


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


@dataclass(slots=True, kw_only=True)
class _Tally:
    examples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    cpu_s: float = field(default=0.0)


def train(
    task: TaskModel[Any],
    order: TrainingOrder,
    batches: Iterator[Batch],
    *,
    on_step: Callable[[StepReport], None],
    cancelled: threading.Event,
) -> TrainingOutcome:
    """Train what is ordered and return the deltas; the base model is bit for bit as before when this ends.

    Blocks for as long as it takes. Raise TrainingCancelledError between steps once `cancelled` is set,
    DataError when a loss or gradient is not finite.
    """
    plan, model = order.plan, task.model
    release_unused()
    idle = resident_bytes()
    tally = _Tally()
    with PeakMeter() as meter:

        def report(done: int) -> TrainingCost:
            cost = TrainingCost(
                extra_peak_bytes=max(0, meter.peak_bytes() - idle), step_cpu_s=tally.cpu_s / max(1, done)
            )
            on_step(StepReport(done=done, total=plan.training.steps, cost=cost))
            return cost

        try:
            scores = {}
            if order.scored:
                scores = score_heads(task, plan, order.state, order.scored, order.bases, next(batches))
            inject(model, plan, order.state, order.trained, order.bases)
            optimiser = make_optimiser(trained_parameters(model, plan), plan.training, order.round_number)
            lower = _lower_part(task, order)
            cost = report(0)
            for step in range(plan.training.steps):
                if cancelled.is_set():
                    raise TrainingCancelledError
                take_step(task, optimiser, next(batches), tally, lower)
                cost = report(step + 1)
            deltas = local_deltas(model, plan, order.state, order.trained)
        finally:
            remove(model)
            model.zero_grad(set_to_none=True)
    statistics = LocalStatistics(examples=tally.examples, loss_sum=tally.loss_sum, correct=tally.correct)
    return TrainingOutcome(
        deltas=deltas, statistics=statistics, held_examples=order.held_examples, scores=scores, cost=cost
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
