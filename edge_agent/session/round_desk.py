"""Do the steps of one round: train, deal shares, upload, confirm, reveal."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.audit.trail import AuditTrail
from edge_agent.hardware.guard import MemoryGuard, OutgrownError
from edge_agent.hardware.limits import LimitReader
from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.secure.offer import UnmaskedUpdate
from edge_agent.secure.round import SecureRound
from edge_agent.session.acceptance import check_memory
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.connection import Coordinator
from edge_agent.session.effects import (
    CloseRound,
    DealShares,
    RevealShares,
    SignSurvivorSet,
    StartTraining,
    UploadMasked,
)
from edge_agent.session.job_desk import JobDesk, PreparedJob
from edge_agent.session.lane import Lane
from edge_agent.session.transfer import Downloads, Uploads
from ravan.adapters.state import decode_state
from ravan.codec.secagg_messages import AgentMessage, Submission
from ravan.errors import ErrorReason, StateError
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import RoundRef
from ravan.manifest.phases import AgentActivity

if TYPE_CHECKING:
    from edge_agent.training.trainer import StepReport

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """What this site fixes for all of its rounds."""

    identity_key: Ed25519PrivateKey
    minimum_bundle_threshold: int
    folder: Path
    """Masked updates on their way."""
    upload_kib_per_s: int
    """0 means no limit."""
    keeper: QuantisedKeeper | None
    audit: AuditTrail


@dataclass(slots=True, kw_only=True)
class _Current:
    secure: SecureRound
    index: int
    number: int
    update: UnmaskedUpdate | None = None


class RoundDesk:
    """Carry out what the session's machine decided for the round; at most one round is in hand."""

    def __init__(
        self,
        *,
        settings: RoundSettings,
        coordinator: Coordinator,
        jobs: JobDesk,
        downloads: Downloads,
        uploads: Uploads,
        lane: Lane,
        board: ActivityBoard,
        limits: LimitReader,
    ) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self._jobs = jobs
        self._downloads = downloads
        self._uploads = uploads
        self._lane = lane
        self._board = board
        self._limits = limits
        self._current: _Current | None = None
        self._offer: UnmaskedUpdate | None = None

    async def train(self, effect: StartTraining) -> None:
        """Fetch the model version, train, and advertise fresh round keys.

        The update of a round that ended before it was masked is offered again where it is what would be trained.
        """
        assignment, number = effect.assignment, effect.assignment.round_number
        offer, self._offer = self._offer, None
        job = self._jobs.job(assignment.plan_digest)
        trained, scored = assignment.blocks_of(effect.index), assignment.scored_by(effect.index)
        check_memory(job.plan, job.profile, trained | scored, self._limits.read().limit_bytes)
        self._board.forget_cost()
        secure = SecureRound(
            assignment=assignment,
            assignment_digest=effect.digest,
            index=effect.index,
            identity_key=self._settings.identity_key,
            minimum_bundle_threshold=self._settings.minimum_bundle_threshold,
            folder=self._settings.folder / f"{assignment.run_id.hex()}-{number}",
            keeper=self._settings.keeper,
        )
        self._current = current = _Current(secure=secure, index=effect.index, number=number)
        with self._board.doing(AgentActivity.DOWNLOADING, number):
            version = await self._downloads.fetch(assignment.state_digest)
        heads = sum(block.kind is BlockKind.HEAD for block in trained)
        log.info("training", round=number, heads=heads, steps=job.plan.training.steps)
        started = time.monotonic()
        with self._board.doing(AgentActivity.TRAINING, number):
            try:
                current.update = await self._lane.in_thread(
                    lambda cancelled: self._train(job, version, effect, offer, cancelled)
                )
            except OutgrownError as error:
                self._jobs.correct(job, job.plan.matrices_reached(trained | scored), error.seen_bytes)
                raise
        log.info("trained", round=number, seconds=round(time.monotonic() - started, 1))
        advertisement = secure.finish_training(current.update.outcome)
        await self._send(_before_roster(assignment, effect.digest), advertisement)

    async def deal_shares(self, effect: DealShares) -> None:
        """Check the roster and send sealed shares."""
        secure = self._secure(effect.round)
        shares = await self._lane.in_thread(lambda _: secure.share(effect.roster, effect.round.roster_digest))
        await self._send(effect.round, shares)

    async def upload(self, effect: UploadMasked) -> None:
        """Mask the update and send it."""
        secure, number = self._secure(effect.round), effect.round.round_number
        with self._board.doing(AgentActivity.MASKING, number):
            masked = await self._lane.in_thread(lambda _: secure.mask(effect.delivery))
        await self._settings.audit.sending(secure.assignment, secure.assignment_digest, masked.header)
        log.info("uploading", round=number, bytes=masked.header.size_bytes)
        with self._board.doing(AgentActivity.UPLOADING, number):
            await self._uploads.send(
                masked.header,
                masked.path,
                effect.round,
                self._settings.upload_kib_per_s or None,
                self._board.progress,
            )
        secure.uploaded()
        await self._settings.audit.sent(secure.assignment_digest)
        log.info("uploaded", round=number)

    async def confirm(self, effect: SignSurvivorSet) -> None:
        """Check and sign the survivor set."""
        secure = self._secure(effect.round)
        signature = secure.confirm(effect.survivors)
        await self._settings.audit.survivors(secure.assignment, secure.assignment_digest, effect.survivors)
        await self._send(effect.round, signature)

    async def reveal(self, effect: RevealShares) -> None:
        """Check who signed and send the shares."""
        secure = self._secure(effect.round)
        await self._send(effect.round, await self._lane.in_thread(lambda _: secure.reveal(effect.request)))

    async def note_end(self, effect: CloseRound) -> None:
        """Write down what became of the round, if anything of it left."""
        await self._settings.audit.ended(effect.assignment_digest, effect.outcome)

    def close(self) -> None:
        """Drop the round's secrets and files, and its update unless it was never masked."""
        if self._current is not None:
            if self._current.secure.holds_clear_update:
                self._offer = self._current.update
            self._current.secure.close()
            self._current = None

    def forget(self, plan_digest: Digest) -> None:
        """Drop what is kept for a job that is over."""
        if self._offer is not None and self._offer.plan_digest == plan_digest:
            self._offer = None

    def _train(
        self,
        job: PreparedJob,
        version: Path,
        effect: StartTraining,
        offer: UnmaskedUpdate | None,
        cancelled: threading.Event,
    ) -> UnmaskedUpdate:
        """Read data, version and model, and train, unless the offer would come out of it. Blocks."""
        from edge_agent.data.batches import deal_batches, local_seed  # noqa: PLC0415 - imports torch
        from edge_agent.training.bases import planned_bases  # noqa: PLC0415 - imports torch
        from edge_agent.training.lower_part import is_worth_keeping  # noqa: PLC0415 - imports torch
        from edge_agent.training.trainer import TrainingOrder, train  # noqa: PLC0415 - imports torch

        guard = MemoryGuard(self._limits)

        def tell(report: StepReport) -> None:
            guard.check(report.cost.extra_peak_bytes)
            self._board.training_cost(report.cost)
            self._board.progress(report.done, report.total, step=f"{report.done}/{report.total}")

        assignment, trained = effect.assignment, effect.assignment.blocks_of(effect.index)
        data = self._jobs.refresh_data(job)
        if offer is not None and offer.serves(assignment, effect.index, data):
            log.info("offers the update of a round that ended before it was masked", round=assignment.round_number)
            return offer
        task = self._jobs.model_of(job)
        room, lengths = self._spare_bytes(job, trained), data.lengths
        keeping = is_worth_keeping(task.model, job.plan, trained, lengths, room)
        order = TrainingOrder(
            plan=job.plan,
            round_number=assignment.round_number,
            state=decode_state(job.plan, version.read_bytes()),
            trained=trained,
            bases=planned_bases(job.plan, job.bases),
            held_examples=len(data),
            room_bytes=room if keeping else 0,
            scored=assignment.scored_by(effect.index),
        )
        # What is kept of one batch serves in another only where both are padded alike.
        length = int(lengths.max()) if keeping else 0
        batches = deal_batches(data, job.plan.training.batch_size, local_seed(), length=length)
        with guard.watching():
            outcome = train(task, order, batches, on_step=tell, cancelled=cancelled)
        return UnmaskedUpdate(
            plan_digest=assignment.plan_digest,
            state_digest=assignment.state_digest,
            trained=trained,
            data=data,
            outcome=outcome,
        )

    def _spare_bytes(self, job: PreparedJob, trained: frozenset[BlockId]) -> int:
        """Return what the limit leaves over the predicted peak."""
        peak = job.profile.peak_bytes(job.plan.matrices_reached(trained))
        return max(0, self._limits.read().limit_bytes - peak)

    def _secure(self, reference: RoundRef) -> SecureRound:
        if self._current is None or self._current.secure.assignment_digest != reference.assignment_digest:
            raise StateError("This site is not in that round any more.", reason=ErrorReason.WRONG_STATE)
        return self._current.secure

    async def _send(self, reference: RoundRef, message: AgentMessage) -> None:
        if self._current is None:
            raise StateError("This site is not in that round any more.", reason=ErrorReason.WRONG_STATE)
        await self._coordinator.submit(Submission(round=reference, index=self._current.index, message=message))


def _before_roster(assignment: Assignment, digest: Digest) -> RoundRef:
    return RoundRef(
        run_id=assignment.run_id,
        round_number=assignment.round_number,
        assignment_digest=digest,
        roster_digest=Digest(b""),
    )
