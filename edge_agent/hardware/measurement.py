"""What a job costs on this PC, measured on the actual model with the dearest batch that can come.

Memory is measured from small to large, and nothing is tried whose predicted peak is over the limit:
first a part of the batch with the dense blocks alone, then the whole batch, then both with about a quarter of
the matrices from the top. What any other number of matrices takes follows from these and from the model's shapes
(`edge_agent.hardware.cost_model`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from torch import nn

from edge_agent.hardware.ceiling import memory_ceiling, ran_out_of_memory
from edge_agent.hardware.cost_model import CostModel, Measured, StepCost
from edge_agent.hardware.kept import Kept, count_kept
from edge_agent.hardware.trial import TrialSteps
from ravan.adapters.basis import BasisSource
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile

_SMALL_PART: Final = 4
"""The first try takes one in so many texts of a batch."""

_UNTRIED: Final = 3
"""Passes of a step that trains everything in passes of one that trains the dense blocks: forward and two gradients."""

_LAYER_NUMBER: Final = re.compile(r"\.(\d+)\.")


def measure_job(
    model: nn.Module,
    plan: JobPlan,
    plan_digest: Digest,
    *,
    vocabulary: int,
    bases: BasisSource,
    limit_bytes: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> JobProfile:
    """Return the job's cost; takes seconds and blocks. The base model is bit for bit as before when this ends.

    `clock` tells the seconds in which steps are timed. Raise ResourceError MEMORY_LIMIT when not even the smallest
    step fits `limit_bytes`.
    """
    trial = TrialSteps(model, plan, bases, vocabulary, limit_bytes, clock)
    try:
        with memory_ceiling(limit_bytes):
            kept = _begin(trial, model, bases, limit_bytes)
            measured = _measure_steps(trial, kept, on_progress)
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        raise _too_tight(limit_bytes) from error
    return CostModel(plan, kept, plan.training.batch_size).profile(
        measured, plan_digest=plan_digest, loaded_bytes=trial.idle_bytes
    )


def top_matrices(plan: JobPlan) -> int:
    """Return how many matrices from the top make whole layers and are about a quarter of all, at least a layer."""
    layers = [_layer_of(matrix.name) for matrix in plan.matrices]
    ends = [n for n in range(1, len(layers) + 1) if n == len(layers) or layers[-n] != layers[-n - 1]]
    return min(ends, key=lambda n: (abs(4 * n - len(layers)), -n), default=0)


def _begin(trial: TrialSteps, model: nn.Module, bases: BasisSource, limit_bytes: int) -> Kept:
    """Take the very first step, which loads libraries and touches weights, and count what steps keep."""
    for matrix in trial.plan.matrices[-1:]:
        bases(matrix)
    trial.cost_of(frozenset(trial.plan.dense_ids()), 1)
    if trial.idle_bytes >= limit_bytes:
        raise _too_tight(limit_bytes, trial.idle_bytes)
    return count_kept(model, trial.plan, trial.batch)


def _measure_steps(trial: TrialSteps, kept: Kept, on_progress: Callable[[int, int], None]) -> Measured:
    plan, number = trial.plan, top_matrices(trial.plan)
    dense, batch_size = frozenset(plan.dense_ids()), plan.training.batch_size
    part = max(1, batch_size // _SMALL_PART)
    small = trial.cost_of(dense, part)
    on_progress(1, 3)
    floor = trial.cost_if_it_fits(dense, batch_size, small.times(batch_size / part))
    on_progress(2, 3)
    reached = _measure_reached(trial, kept, number, part, (small, floor)) if number else floor
    on_progress(3, 3)
    return Measured(floor=floor, matrices=number, reached=reached, preparing_bytes=trial.preparing_bytes)


def _measure_reached(
    trial: TrialSteps, kept: Kept, number: int, part: int, floors: tuple[StepCost, StepCost]
) -> StepCost:
    """Return the cost of training the top `number`, with the whole batch where it fits; `floors` of part and whole."""
    plan, batch_size = trial.plan, trial.plan.training.batch_size
    chosen = {matrix.ordinal for matrix in plan.matrices[-number:]}
    trained = frozenset(plan.dense_ids()) | {block for block in plan.head_ids() if block.matrix in chosen}
    # Until it is measured, a backward pass is taken to need as much room to work in as a forward pass.
    small, whole = (
        StepCost(
            extra_bytes=CostModel(plan, kept, size).reached_bytes(number, floor.extra_bytes),
            seconds=floor.seconds * _UNTRIED,
        )
        for size, floor in zip((part, batch_size), floors, strict=True)
    )
    tried = trial.cost_if_it_fits(trained, part, small)
    if tried is small:
        return whole
    growth = batch_size / part
    working = round(CostModel(plan, kept, part).working_bytes(tried.extra_bytes, number) * growth)
    predicted = StepCost(
        extra_bytes=CostModel(plan, kept, batch_size).reached_bytes(number, working), seconds=tried.seconds * growth
    )
    return trial.cost_if_it_fits(trained, batch_size, predicted)


def _layer_of(name: str) -> str:
    number = _LAYER_NUMBER.search(name)
    return name[: number.end()] if number else name


def _too_tight(limit: int, loaded: int = 0) -> ResourceError:
    what = f"With the model loaded the agent holds {loaded >> 20} MiB" if loaded else "The smallest step takes more"
    return ResourceError(
        f"{what}; its limit is {limit >> 20} MiB.",
        reason=ErrorReason.MEMORY_LIMIT,
        next_step="Raise ram_limit_mb or the system's limit for the agent, or close other programs on this PC.",
    )
