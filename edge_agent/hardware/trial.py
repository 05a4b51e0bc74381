"""Trial steps on the actual model: what they take of memory and time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from torch.optim import AdamW

from edge_agent.hardware.cost_model import StepCost
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import inject, remove, trained_parameters
from ravan.adapters.state import ModelState, initial_state
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan, Precision
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel

MARGIN: Final = 1.05
"""Predicted peaks are taken this much higher; repeated steps differ by a few per cent."""

_SLIGHT: Final = 1e-3
"""Value of every core that is not 0: enough for a head to count, too little to lead anywhere."""

_TIMED_STEPS: Final = 3
"""Whose median is taken: one that something else disturbed does not count."""


class TrialSteps:
    """Train for some steps and throw away what they changed."""

    def __init__(
        self,
        task: TaskModel[Any],
        plan: JobPlan,
        bases: BasisSource,
        data: EncodedExamples,
        limit_bytes: int,
        clock: Callable[[], float],
        before_step: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.idle_bytes = 0
        """Resident memory after the last steps, with nothing training."""
        self.preparing_bytes = 0
        """Most that drawing bases took beside what it left."""
        self._task = task
        self._bases = bases
        self._data = data
        self._limit = limit_bytes
        self._clock = clock
        self._before_step = before_step
        self._state = _state_to_try(plan)

    def batch(self, size: int) -> Batch:
        """Return the dearest batch of so many examples."""
        return self._task.worst_case(size, self._data)

    def fits(self, extra_bytes: int) -> bool:
        """Tell whether so much over the idle model may be tried."""
        return self.idle_bytes + extra_bytes * MARGIN <= self._limit

    def cost_if_it_fits(self, trained: frozenset[BlockId], batch_size: int, predicted: StepCost) -> StepCost:
        """Measure, or return the prediction where that might go over the limit."""
        return self.cost_of(trained, batch_size) if self.fits(predicted.extra_bytes) else predicted

    def cost_of(self, trained: frozenset[BlockId], batch_size: int) -> StepCost:
        """Do some steps and return the peak over all and the median time of one."""
        training, model, batch = self.plan.training, self._task.model, self.batch(batch_size)
        # A part of the batch is tried for its memory; its time counts only where a whole one does not fit.
        steps = 1 + (_TIMED_STEPS if batch_size == training.batch_size else 1)
        try:
            self._inject(trained)
            with PeakMeter() as meter:
                optimiser = make_optimiser(trained_parameters(model, self.plan), training, 1)
                times = [self._timed_step(optimiser, batch) for _ in range(steps)]
                del optimiser
        finally:
            remove(model)
            model.zero_grad(set_to_none=True)
        # What libraries keep for the next step counts as idle: it stays for as long as the process.
        release_unused()
        self.idle_bytes = resident_bytes()
        return StepCost(extra_bytes=max(0, meter.peak_bytes() - self.idle_bytes), seconds=statistics.median(times[1:]))

    def _inject(self, trained: frozenset[BlockId]) -> None:
        release_unused()
        with PeakMeter() as meter:
            inject(self._task.model, self.plan, self._state, trained, self._bases)
        release_unused()
        self.preparing_bytes = max(self.preparing_bytes, meter.peak_bytes() - resident_bytes())

    def _timed_step(self, optimiser: AdamW, batch: Batch) -> float:
        self._before_step()
        started = self._clock()
        take_step(self._task, optimiser, batch)
        return self._clock() - started


def _state_to_try(plan: JobPlan) -> ModelState:
    """Return the first round's state or, beside narrow weights, a later one's: there heads run also while they rest."""
    state = initial_state(plan)
    if plan.precision is Precision.FLOAT32:
        return state
    heads = set(plan.head_ids())
    return {block: np.full_like(value, _SLIGHT) if block in heads else value for block, value in state.items()}
