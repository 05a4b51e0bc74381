"""Trial steps on the actual model: what they take of memory and time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from torch import nn
from torch.optim import AdamW

from edge_agent.data.batches import Batch, worst_case_batch
from edge_agent.hardware.ceiling import ran_out_of_memory
from edge_agent.hardware.cost_model import StepCost
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import inject, remove, trained_parameters
from ravan.adapters.state import initial_state
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan

MARGIN: Final = 1.05
"""Predicted peaks are taken this much higher; repeated steps differ by a few per cent."""

_TIMED_STEPS: Final = 3
"""Whose median is taken: one that something else disturbed does not count."""


class TrialSteps:
    """Train for some steps and throw away what they changed."""

    def __init__(
        self,
        model: nn.Module,
        plan: JobPlan,
        bases: BasisSource,
        vocabulary: int,
        limit_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.plan = plan
        self.idle_bytes = 0
        """Resident memory after the last steps, with nothing training."""
        self.preparing_bytes = 0
        """Most that drawing bases took beside what it left."""
        self._model = model
        self._bases = bases
        self._vocabulary = vocabulary
        self._limit = limit_bytes
        self._clock = clock
        self._state = initial_state(plan)

    def batch(self, size: int) -> Batch:
        """Return the dearest batch of so many examples."""
        training = self.plan.training
        return worst_case_batch(size, training.max_length, self._vocabulary, len(training.labels))

    def fits(self, extra_bytes: int) -> bool:
        """Tell whether so much over the idle model may be tried."""
        return self.idle_bytes + extra_bytes * MARGIN <= self._limit

    def cost_if_it_fits(self, trained: frozenset[BlockId], batch_size: int, predicted: StepCost) -> StepCost:
        """Measure, or return the prediction where that might go over the limit or does."""
        if not self.fits(predicted.extra_bytes):
            return predicted
        try:
            return self.cost_of(trained, batch_size)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            return predicted

    def cost_of(self, trained: frozenset[BlockId], batch_size: int) -> StepCost:
        """Do some steps and return the peak over all and the median time of one."""
        training, batch = self.plan.training, self.batch(batch_size)
        # A part of the batch is tried for its memory; its time counts only where a whole one does not fit.
        steps = 1 + (_TIMED_STEPS if batch_size == training.batch_size else 1)
        try:
            self._inject(trained)
            with PeakMeter() as meter:
                optimiser = make_optimiser(trained_parameters(self._model, self.plan), training, 1)
                times = [self._timed_step(optimiser, batch) for _ in range(steps)]
                del optimiser
        finally:
            remove(self._model)
            self._model.zero_grad(set_to_none=True)
        # What libraries keep for the next step counts as idle: it stays for as long as the process.
        release_unused()
        self.idle_bytes = resident_bytes()
        return StepCost(extra_bytes=max(0, meter.peak_bytes() - self.idle_bytes), seconds=statistics.median(times[1:]))

    def _inject(self, trained: frozenset[BlockId]) -> None:
        release_unused()
        with PeakMeter() as meter:
            inject(self._model, self.plan, self._state, trained, self._bases)
        release_unused()
        self.preparing_bytes = max(self.preparing_bytes, meter.peak_bytes() - resident_bytes())

    def _timed_step(self, optimiser: AdamW, batch: Batch) -> float:
        started = self._clock()
        take_step(self._model, optimiser, batch)
        return self._clock() - started
