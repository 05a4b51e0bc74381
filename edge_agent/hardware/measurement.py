"""What a job costs on this PC, measured on the actual model with the dearest batch that can come.

Memory is measured from small to large, and nothing is tried whose predicted peak is over the limit:
first a part of the batch with the dense blocks alone, then the whole batch, then the same with about
a quarter of the matrices from the top. Layers are measured whole, since memory grows by layers: the
activations of a layer are kept as soon as one of its matrices trains.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import AdamW

from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import inject, remove, trained_parameters
from ravan.adapters.state import initial_state
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel

_SMALL_PART = 4
"""The first try takes one in so many texts of a batch."""

_TIMED_STEPS = 2
_MARGIN = 1.05
"""Predicted peaks are taken this much higher; repeated steps differ by a few per cent."""

_LAYER_NUMBER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one step."""

    extra_bytes: int
    """Peak over the loaded idle model."""
    seconds: float

    def times(self, factor: float) -> _Cost:
        return _Cost(round(self.extra_bytes * factor), self.seconds * factor)

    def plus(self, other: _Cost) -> _Cost:
        return _Cost(self.extra_bytes + other.extra_bytes, self.seconds + other.seconds)

    def minus(self, other: _Cost) -> _Cost:
        return _Cost(max(0, self.extra_bytes - other.extra_bytes), max(0.0, self.seconds - other.seconds))


def measure_job(
    task: TaskModel[Any],
    plan: JobPlan,
    plan_digest: Digest,
    *,
    data: EncodedExamples,
    bases: BasisSource,
    limit_bytes: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> JobProfile:
    """Return the job's cost; takes seconds and blocks. The base model is bit for bit as before when this ends.

    Raise ResourceError MEMORY_LIMIT when not even the first try can be expected to fit `limit_bytes`.
    """
    bench = _Bench(task, plan, bases, data, limit_bytes)
    dense = _least_blocks(plan)
    # The first step of a process loads libraries and touches weights; that is no cost of a step.
    bench.cost_of(dense, 1)
    if bench.idle_bytes >= limit_bytes:
        raise _too_tight(bench.idle_bytes, limit_bytes)
    small = bench.cost_of(dense, bench.part)
    on_progress(1, 3)
    floor = bench.cost_if_it_fits(dense, small.times(bench.growth))
    on_progress(2, 3)
    per_matrix = _matrix_cost(bench, dense, small, floor) if plan.matrices else _Cost(0, 0.0)
    on_progress(3, 3)
    return JobProfile(
        plan_digest=plan_digest,
        ram_loaded_bytes=bench.idle_bytes,
        ram_floor_bytes=floor.extra_bytes,
        ram_per_matrix_bytes=per_matrix.extra_bytes,
        step_floor_s=floor.seconds,
        step_per_matrix_s=per_matrix.seconds,
    )


def top_matrices(plan: JobPlan) -> int:
    """Return how many matrices from the top make whole layers and are about a quarter of all, at least a layer."""
    layers = [_layer_of(matrix.name) for matrix in plan.matrices]
    ends = [n for n in range(1, len(layers) + 1) if n == len(layers) or layers[-n] != layers[-n - 1]]
    return min(ends, key=lambda n: (abs(4 * n - len(layers)), -n))


def _matrix_cost(bench: _Bench, dense: frozenset[BlockId], small: _Cost, floor: _Cost) -> _Cost:
    """Return the further cost of one matrix, measured over `top_matrices`."""
    plan = bench.plan
    number = top_matrices(plan)
    chosen = {matrix.ordinal for matrix in plan.matrices[-number:]}
    trained = dense | {block for block in plan.head_ids() if block.matrix in chosen}
    if not bench.fits(floor):
        # There is no room to find out. So much a matrix means that none is allotted.
        return floor
    further = bench.cost_of(trained, bench.part).minus(small)
    predicted = floor.plus(further.times(bench.growth))
    return bench.cost_if_it_fits(trained, predicted).minus(floor).times(1 / number)


class _Bench:
    """Run single steps and take their cost."""

    def __init__(
        self, task: TaskModel[Any], plan: JobPlan, bases: BasisSource, data: EncodedExamples, limit: int
    ) -> None:
        self.plan = plan
        self.idle_bytes = 0
        """Resident memory after the last steps, with nothing training."""
        self.part = max(1, plan.training.batch_size // _SMALL_PART)
        self.growth = plan.training.batch_size / self.part
        self._task = task
        self._bases = bases
        self._data = data
        self._limit = limit
        self._state = initial_state(plan)

    def fits(self, cost: _Cost) -> bool:
        """Tell whether so much may be tried."""
        return self.idle_bytes + cost.extra_bytes * _MARGIN <= self._limit

    def cost_if_it_fits(self, trained: frozenset[BlockId], predicted: _Cost) -> _Cost:
        """Measure with the whole batch, or return the prediction where that might go over the limit."""
        return self.cost_of(trained, self.plan.training.batch_size) if self.fits(predicted) else predicted

    def cost_of(self, trained: frozenset[BlockId], batch_size: int) -> _Cost:
        """Do some steps and return the peak over all and the median time of one."""
        training, model = self.plan.training, self._task.model
        batch = self._task.worst_case(batch_size, self._data)
        release_unused()
        with PeakMeter() as meter:
            try:
                inject(model, self.plan, self._state, trained, self._bases)
                optimiser = make_optimiser(trained_parameters(model, self.plan), training, 1)
                # A part of the batch is tried for its memory; its time counts only where a whole one does not fit.
                steps = 1 + (_TIMED_STEPS if batch_size == training.batch_size else 1)
                times = [_timed_step(self._task, optimiser, batch) for _ in range(steps)]
            finally:
                remove(model)
                model.zero_grad(set_to_none=True)
        # What libraries keep for the next step counts as idle: it stays for as long as the process.
        release_unused()
        self.idle_bytes = resident_bytes()
        return _Cost(max(0, meter.peak_bytes() - self.idle_bytes), statistics.median(times[1:]))


def _timed_step(task: TaskModel[Any], optimiser: AdamW, batch: Batch) -> float:
    started = time.perf_counter()
    take_step(task, optimiser, batch)
    return time.perf_counter() - started


def _least_blocks(plan: JobPlan) -> frozenset[BlockId]:
    """Return the dense blocks or, where all that trains is heads, those of the top matrix."""
    top = len(plan.matrices) - 1
    return frozenset(plan.dense_ids() or (block for block in plan.head_ids() if block.matrix == top))


def _layer_of(name: str) -> str:
    number = _LAYER_NUMBER.search(name)
    return name[: number.end()] if number else name


def _too_tight(loaded: int, limit: int) -> ResourceError:
    return ResourceError(
        f"With the model loaded the agent holds {loaded >> 20} MiB, over its limit of {limit >> 20} MiB.",
        reason=ErrorReason.MEMORY_LIMIT,
        next_step="Raise ram_limit_mb or the system's limit for the agent, or close other programs on this PC.",
    )
