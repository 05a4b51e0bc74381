"""The training of one round: what an earlier process has trained, or what comes of data, version and model now."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from edge_agent.hardware.guard import MemoryGuard
from edge_agent.hardware.limits import LimitReader
from edge_agent.host.watch import HostWatch
from edge_agent.secure.notes import Opening, RoundNotes
from edge_agent.secure.offer import UnmaskedUpdate
from edge_agent.session.acceptance import check_memory
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.effects import StartTraining
from edge_agent.session.job_desk import JobDesk, PreparedJob
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.outcome_file import read_outcome, write_outcome
from ravan.adapters.state import decode_state
from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment

if TYPE_CHECKING:
    from edge_agent.training.trainer import StepReport
    from ravan.tasks.task_model import EncodedExamples

log = structlog.stdlib.get_logger(__name__)

_CHECKPOINT_BYTES: Final = 12
"""Of a parameter: itself and the optimiser's two averages."""

_UPDATE_BYTES: Final = 4
"""Of a parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFolder:
    """Where a round writes down how far it is, and what it began with."""

    notes: RoundNotes
    opening: Opening


def round_files_bytes(assignment: Assignment, index: int) -> int:
    """Return about what a site's files of a round take, from the first checkpoint to the masked payload."""
    trained = assignment.blocks_of(index)
    parameters = sum(block.length for block in assignment.blocks if block.block_id in trained)
    return parameters * (_CHECKPOINT_BYTES + _UPDATE_BYTES) + parameters * assignment.ring_bits // 8


class RoundTraining:
    """Train what a round asks for; every method blocks."""

    def __init__(
        self, jobs: JobDesk, limits: LimitReader, board: ActivityBoard, watch: HostWatch, *, checkpoint_s: float
    ) -> None:
        """Take the least time between two checkpoints, beside the parts."""
        self._watch = watch
        self._jobs = jobs
        self._checkpoint_s = checkpoint_s
        self._limits = limits
        self._board = board

    def check(self, job: PreparedJob, blocks: frozenset[BlockId]) -> None:
        """Raise ResourceError: HOST_BUSY when the PC may not train now, MEMORY_LIMIT when these blocks do not fit."""
        self._watch.check()
        check_memory(job.plan, job.profile, blocks, self._limits.read().limit_bytes)

    def run(
        self,
        job: PreparedJob,
        version: Path,
        effect: StartTraining,
        folder: RoundFolder,
        offer: UnmaskedUpdate | None,
        cancelled: threading.Event,
    ) -> UnmaskedUpdate:
        """Return the round's update, which is on disk then; train only where nothing else gives it.

        Raises OutgrownError, DataError, ResourceError (DISK_FULL), TrainingCancelledError.
        """
        assignment = effect.assignment
        data: EncodedExamples | None = None
        outcome = self._trained_before(effect, folder)
        if outcome is None:
            data = self._jobs.refresh_data(job)
            if offer is not None and offer.serves(assignment, effect.index, data):
                log.info("offers the update of a round that ended before it was masked", round=assignment.round_number)
                outcome = offer.outcome
            else:
                outcome = self._train(job, version, effect, folder, data, cancelled)
            write_outcome(folder.notes.outcome, outcome)
        return UnmaskedUpdate(
            plan_digest=assignment.plan_digest,
            state_digest=assignment.state_digest,
            trained=assignment.blocks_of(effect.index),
            data=data,
            outcome=outcome,
        )

    def _trained_before(self, effect: StartTraining, folder: RoundFolder) -> TrainingOutcome | None:
        """Return the update that an earlier process of this site has trained for the round."""
        found = read_outcome(folder.notes.outcome)
        assignment = effect.assignment
        if (
            found is None
            or found.deltas.keys() != assignment.blocks_of(effect.index)
            or found.scores.keys() != assignment.scored_by(effect.index)
        ):
            return None
        log.info("goes on with the update that it has trained", round=assignment.round_number)
        return found

    def _train(
        self,
        job: PreparedJob,
        version: Path,
        effect: StartTraining,
        folder: RoundFolder,
        data: EncodedExamples,
        cancelled: threading.Event,
    ) -> TrainingOutcome:
        from edge_agent.data.batches import deal_batches  # noqa: PLC0415 - imports torch
        from edge_agent.training.bases import planned_bases  # noqa: PLC0415 - imports torch
        from edge_agent.training.checkpoint import CheckpointFile  # noqa: PLC0415 - imports torch
        from edge_agent.training.lower_part import is_worth_keeping  # noqa: PLC0415 - imports torch
        from edge_agent.training.trainer import TrainingOrder, train  # noqa: PLC0415 - imports torch

        guard = MemoryGuard(self._limits)

        def tell(report: StepReport) -> None:
            guard.check(report.cost.extra_peak_bytes)
            self._board.training_cost(report.cost)
            self._board.progress(report.done, report.total, step=f"{report.done}/{report.total}")

        assignment, trained = effect.assignment, effect.assignment.blocks_of(effect.index)
        checkpoints = CheckpointFile(folder.notes.checkpoint, job.data_stamp, every_s=self._checkpoint_s)
        left = checkpoints.read()
        task = self._jobs.model_of(job)
        room = self._spare_bytes(job, trained)
        keeping = is_worth_keeping(task.model, job.plan, trained, data.lengths, room)
        # What is kept of one batch serves in another only where both are padded alike.
        length = left.length if left is not None else int(data.lengths.max()) if keeping else 0
        order = TrainingOrder(
            plan=job.plan,
            round_number=assignment.round_number,
            state=decode_state(job.plan, version.read_bytes()),
            trained=trained,
            bases=planned_bases(job.plan, job.bases),
            held_examples=len(data),
            room_bytes=room if keeping and length else 0,
            scored=assignment.scored_by(effect.index),
            length=length,
            left=left,
            checkpoints=checkpoints,
            gate=self._watch.gate,
        )
        seed = int.from_bytes(folder.opening.seed, "big")
        with guard.watching():
            return train(
                task,
                order,
                lambda first: deal_batches(data, job.plan.training.batch_size, seed, length=length, first=first),
                on_step=tell,
                cancelled=cancelled,
            )

    def _spare_bytes(self, job: PreparedJob, trained: frozenset[BlockId]) -> int:
        """Return what the limit leaves over the predicted peak."""
        peak = job.profile.peak_bytes(job.plan.matrices_reached(trained))
        return max(0, self._limits.read().limit_bytes - peak)
