"""Train a PC's own heads on its own data, and judge them by examples that nothing was learnt from."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from edge_agent.config import AgentFile
from edge_agent.data.batches import deal_batches
from edge_agent.data.site_data import read_both_sides
from edge_agent.hardware.guard import MemoryGuard, OutgrownError
from edge_agent.hardware.limits import LimitReader
from edge_agent.serving.base_files import BaseFiles, find_base_files
from edge_agent.serving.kept import KeptModel
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from ravan.adapters.model import inject, remove
from ravan.adapters.planned_bases import planned_bases
from ravan.adapters.state import ModelState, decode_state, encode_state
from ravan.errors import ConfigError, DataError, ErrorReason, ResourceError
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model
from ravan.tasks.passes import Score, measure
from ravan.tasks.task_model import EncodedExamples, TaskModel

PASSES: Final = 3
"""Times that each example is learnt from, where nobody says how many steps to take."""

LEAST_VALIDATION: Final = 20
"""Examples to judge by; with fewer, one of them decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraining:
    """What came of it."""

    state: bytes
    """Version and own changes in one, as `encode_state` writes it."""
    steps: int
    learnt_from: int
    """Examples."""
    shared: Score
    """Of the version, on the site's kept-back examples."""
    own: Score
    """Of the state, on the same."""

    @property
    def better(self) -> bool:
        """Tell whether the own heads are right more often, or as often and surer."""
        return (self.own.accuracy, -self.own.loss) > (self.shared.accuracy, -self.shared.loss)


def train_own_heads(
    config: AgentFile,
    kept: KeptModel,
    *,
    steps: int = 0,
    classifier_alone: bool = False,
) -> OwnTraining:
    """Train from the kept version on; 0 steps take `PASSES` passes over the site's data.

    Raise DataError, ConfigError, ModelError or TransferError, and ResourceError where memory does not do.
    """
    plan, state = kept.plan, decode_state(kept.plan, kept.read_state())
    trained = _trained(plan, classifier_alone=classifier_alone)
    files = find_base_files(plan, config.agent.cache_dir)
    task = load_task_model(files.folder, plan.training, plan.precision)
    found, _ = read_both_sides(config, task.training)
    _check_validation(plan.training.data, len(found.validation))
    learnt, judged = task.encode(found.training), task.encode(found.validation)
    shared = _score(task, plan, state, files, judged)
    taken = steps or max(1, -(-PASSES * len(learnt) // plan.training.batch_size))
    order = _order(kept, state, trained, files, held=len(learnt), steps=taken)
    seed = int.from_bytes(os.urandom(16), "big")
    outcome = _train(
        task,
        order,
        lambda first: deal_batches(learnt, plan.training.batch_size, seed, first=first),
        LimitReader(configured_mb=config.agent.ram_limit_mb),
    )
    own = {block: array + outcome.deltas[block] if block in trained else array for block, array in state.items()}
    return OwnTraining(
        state=encode_state(plan, own),
        steps=taken,
        learnt_from=len(learnt),
        shared=shared,
        own=_score(task, plan, own, files, judged),
    )


def _train(
    task: TaskModel[Any], order: TrainingOrder, batches: Callable[[int], Iterator[Batch]], limits: LimitReader
) -> TrainingOutcome:
    guard = MemoryGuard(limits)
    try:
        with guard.watching():
            return train(
                task,
                order,
                batches,
                on_step=lambda report: guard.check(report.cost.extra_peak_bytes),
                cancelled=threading.Event(),
            )
    except OutgrownError as error:
        raise ResourceError(
            f"Training own heads needs more than {error.seen_bytes >> 20} MiB; that is this agent's limit.",
            reason=ErrorReason.MEMORY_LIMIT,
            next_step="End the agent meanwhile, train with --classifier-alone, or raise ram_limit_mb.",
        ) from error


def _order(
    kept: KeptModel, state: ModelState, trained: frozenset[BlockId], files: BaseFiles, *, held: int, steps: int
) -> TrainingOrder:
    training = dataclasses.replace(kept.plan.training, steps=steps)
    return TrainingOrder(
        plan=dataclasses.replace(kept.plan, training=training),
        # The learning rates go on from where the shared training has come to.
        round_number=max(1, kept.round_number),
        state=state,
        trained=trained,
        bases=planned_bases(kept.plan, files.bases),
        held_examples=held,
    )


def _score(task: TaskModel[Any], plan: JobPlan, state: ModelState, files: BaseFiles, data: EncodedExamples) -> Score:
    try:
        with torch.no_grad():
            inject(task.model, plan, state, frozenset(), planned_bases(plan, files.bases))
            return measure(task, data)
    finally:
        remove(task.model)


def _trained(plan: JobPlan, *, classifier_alone: bool) -> frozenset[BlockId]:
    trained = frozenset(plan.dense_ids() if classifier_alone else (*plan.dense_ids(), *plan.head_ids()))
    if not trained:
        raise ConfigError(
            f"The model of '{plan.job_name}' has no classifier of its own.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Leave --classifier-alone out.",
        )
    return trained


def _check_validation(name: str, kept_back: int) -> None:
    if kept_back < LEAST_VALIDATION:
        raise DataError(
            f"[data.{name}] keeps {kept_back} examples from learning; {LEAST_VALIDATION} or more are needed to tell"
            " whether own heads are better.",
            reason=ErrorReason.DATA_TOO_FEW,
            next_step=f"Set validation_share = 0.1 or more in [data.{name}], and wait for the next round before that"
            " counts: what was learnt already is no fair test.",
        )
