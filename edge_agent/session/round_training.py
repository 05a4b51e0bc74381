"""The training of one round: what an earlier process has trained, or what comes of data, version and model now."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from edge_agent.hardware.limits import LimitReader
from edge_agent.host.watch import HostWatch
from edge_agent.secure.notes import Opening, RoundNotes
from edge_agent.secure.offer import UnmaskedUpdate
from edge_agent.session.acceptance import check_memory
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.effects import StartTraining
from edge_agent.session.job_desk import PreparedJob
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.outcome_file import read_outcome, write_outcome
from edge_agent.worker.orders import Progress
from edge_agent.worker.port import Worker, WorkerKilledError
from edge_agent.worker.training import RefreshData, TrainRound
from ravan.data.stamp import Stamp
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment

log = structlog.stdlib.get_logger(__name__)

_CHECKPOINT_BYTES: Final = 12
"""Of a parameter: itself and the optimiser's two averages."""

_UPDATE_BYTES: Final = 4
"""Of a parameter."""


class TrainingKilledError(WorkerKilledError):
    """The system ended the worker while it trained, and not while it read or measured."""


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
        self, worker: Worker, limits: LimitReader, board: ActivityBoard, watch: HostWatch, *, checkpoint_s: float
    ) -> None:
        """Take the least time between two checkpoints, beside the parts."""
        self._watch = watch
        self._worker = worker
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

        Raises OutgrownError, TrainingKilledError, DataError, ResourceError (MEMORY_LIMIT, DISK_FULL) or
        TrainingCancelledError.
        """
        assignment = effect.assignment
        stamp: Stamp | None = None
        outcome = self._trained_before(effect, folder)
        if outcome is None:
            stamp = self._worker.ask(RefreshData(job=job.files), cancelled)
            if offer is not None and offer.serves(assignment, effect.index, stamp):
                log.info("offers the update of a round that ended before it was masked")
                outcome = offer.outcome
                write_outcome(folder.notes.outcome, outcome)
            else:
                stamp = self._train(self._order(job, version, effect, folder), cancelled)
                outcome = _written(folder.notes.outcome)
        return UnmaskedUpdate(
            plan_digest=assignment.plan_digest,
            state_digest=assignment.state_digest,
            trained=assignment.blocks_of(effect.index),
            data_stamp=stamp,
            outcome=outcome,
        )

    def _train(self, order: TrainRound, cancelled: threading.Event) -> Stamp:
        try:
            return self._worker.ask(order, cancelled, self._tell)
        except WorkerKilledError as error:
            raise TrainingKilledError(str(error), reason=error.reason, next_step=error.next_step) from error

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
        log.info("goes on with the update that it has trained")
        return found

    def _order(self, job: PreparedJob, version: Path, effect: StartTraining, folder: RoundFolder) -> TrainRound:
        assignment, trained = effect.assignment, effect.assignment.blocks_of(effect.index)
        return TrainRound(
            job=job.files,
            round_number=assignment.round_number,
            version=version,
            trained=trained,
            scored=assignment.scored_by(effect.index),
            seed=folder.opening.seed,
            room_bytes=self._spare_bytes(job, trained),
            checkpoint=folder.notes.checkpoint,
            checkpoint_s=self._checkpoint_s,
            outcome=folder.notes.outcome,
        )

    def _tell(self, heard: Progress) -> None:
        if heard.cost is not None:
            self._board.training_cost(heard.cost)
        self._board.progress(heard.done, heard.total, step=heard.step)

    def _spare_bytes(self, job: PreparedJob, trained: frozenset[BlockId]) -> int:
        """Return what the limit leaves over the predicted peak."""
        peak = job.profile.peak_bytes(job.plan.matrices_reached(trained))
        return max(0, self._limits.read().limit_bytes - peak)


def _written(path: Path) -> TrainingOutcome:
    """Return what the worker has just written."""
    outcome = read_outcome(path)
    if outcome is None:
        raise ResourceError(
            f"The update that was trained cannot be read back from {path}.",
            reason=ErrorReason.DISK_FULL,
            next_step="See that the disk of state_dir is sound and not full.",
        )
    return outcome
