"""What a job costs on this PC, measured on the actual model with the dearest batch that can come.

Memory is measured from small to large, and nothing is tried whose predicted peak is over the limit:
first a part of the batch with as little training as can be, then the whole batch, then both with about a quarter of
the matrices from the top. What any other number of matrices takes follows from these and from the model's shapes
(`edge_agent.hardware.cost_model`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from edge_agent.hardware.cost_model import CostModel, Measured, StepCost
from edge_agent.hardware.kept import Kept, count_kept
from edge_agent.hardware.trial import TrialSteps
from ravan.adapters.basis import BasisSource
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile
from ravan.tasks.task_model import EncodedExamples, TaskModel

_SMALL_PART: Final = 4
"""The first try takes one in so many examples of a batch."""

_UNTRIED: Final = 3
"""Passes of a step that trains everything in passes of one that trains the dense blocks: forward and two gradients."""

_LAYER_NUMBER: Final = re.compile(r"\.(\d+)\.")


def measure_job(  # noqa: PLR0913 - what is measured, on what, under which limit, and how to follow it
    task: TaskModel[Any],
    plan: JobPlan,
    plan_digest: Digest,
    *,
    data: EncodedExamples,
    bases: BasisSource,
    limit_bytes: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    before_step: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> JobProfile:
    """Return the job's cost; takes seconds and blocks. The base model is bit for bit as before when this ends.

    `clock` tells the seconds in which steps are timed. What `before_step` raises ends the measurement. Raise
    ResourceError MEMORY_LIMIT when not even the first try can be expected to fit `limit_bytes`.
    """
    trial = TrialSteps(task, plan, bases, data, limit_bytes, clock, before_step)
    # The first step of a process loads libraries and touches weights; that is no cost of a step.
    trial.cost_of(_blocks_from(plan, least_matrices(plan)), 1)
    if trial.idle_bytes >= limit_bytes:
        raise _too_tight(trial.idle_bytes, limit_bytes)
    kept = count_kept(task, plan, trial.batch)
    measured = _measure_steps(trial, kept, on_progress)
    return CostModel(plan, kept, plan.training.batch_size).profile(
        measured, plan_digest=plan_digest, loaded_bytes=trial.idle_bytes
    )


def top_matrices(plan: JobPlan) -> int:
    """Return how many matrices from the top make whole layers and are about a quarter of all, at least a layer."""
    layers = [_layer_of(matrix.name) for matrix in plan.matrices]
    ends = [n for n in range(1, len(layers) + 1) if n == len(layers) or layers[-n] != layers[-n - 1]]
    return min(ends, key=lambda n: (abs(4 * n - len(layers)), -n), default=0)


def least_matrices(plan: JobPlan) -> int:
    """Return how many matrices the smallest step trains: none or, where all that trains is heads, the top one."""
    return 0 if plan.dense else min(1, len(plan.matrices))


def _measure_steps(trial: TrialSteps, kept: Kept, on_progress: Callable[[int, int], None]) -> Measured:
    plan, number, least = trial.plan, top_matrices(trial.plan), least_matrices(trial.plan)
    blocks, batch_size = _blocks_from(plan, least), plan.training.batch_size
    part = max(1, batch_size // _SMALL_PART)
    small = trial.cost_of(blocks, part)
    on_progress(1, 3)
    floor = trial.cost_if_it_fits(blocks, batch_size, small.times(batch_size / part))
    on_progress(2, 3)
    reached = _measure_reached(trial, kept, part, (small, floor)) if number > least else floor
    on_progress(3, 3)
    return Measured(
        least=least,
        floor=floor,
        matrices=number,
        reached=reached,
        preparing_bytes=trial.preparing_bytes,
    )


def _measure_reached(trial: TrialSteps, kept: Kept, part: int, floors: tuple[StepCost, StepCost]) -> StepCost:
    """Return the cost of training `top_matrices`, with the whole batch where it fits; `floors` of part and whole."""
    plan, batch_size = trial.plan, trial.plan.training.batch_size
    number, least = top_matrices(plan), least_matrices(plan)
    trained = _blocks_from(plan, number)
    # Until it is measured, a backward pass is taken to need as much room to work in as the smallest step.
    small, whole = (
        StepCost(
            extra_bytes=model.reached_bytes(number, model.working_bytes(floor.extra_bytes, least)),
            seconds=floor.seconds * _UNTRIED,
        )
        for model, floor in zip((CostModel(plan, kept, size) for size in (part, batch_size)), floors, strict=True)
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


def _blocks_from(plan: JobPlan, matrices: int) -> frozenset[BlockId]:
    """Return the dense blocks and the heads of the top `matrices`."""
    first = len(plan.matrices) - matrices
    return frozenset(plan.dense_ids()) | {block for block in plan.head_ids() if block.matrix >= first}


def _layer_of(name: str) -> str:
    number = _LAYER_NUMBER.search(name)
    return name[: number.end()] if number else name


def _too_tight(loaded: int, limit: int) -> ResourceError:
    return ResourceError(
        f"With the model loaded {loaded >> 20} MiB are taken; the agent's limit leaves {limit >> 20} MiB for it.",
        reason=ErrorReason.MEMORY_LIMIT,
        next_step="Raise ram_limit_mb or the system's limit for the agent, or close other programs on this PC.",
    )
