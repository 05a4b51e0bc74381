"""Do the steps of one round: train, deal shares, upload, confirm, reveal."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.audit.trail import AuditTrail
from edge_agent.hardware.guard import OutgrownError
from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.secure.notes import RoundNotes
from edge_agent.secure.offer import UnmaskedUpdate
from edge_agent.secure.round import SecureRound
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.connection import Coordinator
from edge_agent.session.effects import (
    CloseRound,
    DealShares,
    KeepHead,
    RevealShares,
    SignSurvivorSet,
    StartTraining,
    UploadMasked,
)
from edge_agent.session.job_desk import JobDesk
from edge_agent.session.lane import Lane
from edge_agent.session.round_training import RoundFolder, RoundTraining, TrainingKilledError, round_files_bytes
from edge_agent.session.transfer import Downloads, Uploads
from ravan.codec.secagg_messages import AgentMessage, Submission
from ravan.errors import ErrorReason, StateError
from ravan.ids import BlockKind, Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import RoundRef
from ravan.manifest.phases import AgentActivity
from ravan.tracing.recording import TracedRound, Tracer
from ravan.tracing.spans import RoundTrace, Work

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """What this site fixes for all of its rounds."""

    process_id: bytes
    identity_key: Ed25519PrivateKey = field(repr=False)
    minimum_bundle_threshold: int
    folder: Path
    """What is written down of the round that is going on."""
    keeper: QuantisedKeeper | None
    audit: AuditTrail
    tracer: Tracer = field(default_factory=Tracer)


@dataclass(slots=True, kw_only=True)
class _Current:
    secure: SecureRound
    folder: RoundFolder
    index: int
    number: int
    traced: TracedRound
    update: UnmaskedUpdate | None = None


class RoundDesk:
    """Carry out what the session's machine decided for the round; at most one round is in hand."""

    def __init__(
        self,
        *,
        settings: RoundSettings,
        coordinator: Coordinator,
        jobs: JobDesk,
        training: RoundTraining,
        downloads: Downloads,
        uploads: Uploads,
        lane: Lane,
        board: ActivityBoard,
    ) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self._jobs = jobs
        self._training = training
        self._downloads = downloads
        self._uploads = uploads
        self._lane = lane
        self._board = board
        self._current: _Current | None = None
        self._offer: UnmaskedUpdate | None = None

    @property
    def number(self) -> int | None:
        """Return the number of the round in hand."""
        return None if self._current is None else self._current.number

    def begin(self, round_ref: RoundRef) -> None:
        """Write down how a round begins here, unless it has begun; raise ResourceError (DISK_FULL). Blocks."""
        self._notes_of(round_ref).begin(round_ref, self._settings.process_id)

    def _notes_of(self, round_ref: RoundRef) -> RoundNotes:
        return RoundNotes(self._settings.folder / f"{round_ref.run_id.hex()}-{round_ref.round_number}")

    async def train(self, effect: StartTraining) -> None:
        """Fetch the model version, train, and advertise the round's keys.

        The update of a round that ended before it was masked is offered again where it is what would be trained.
        """
        offer, self._offer = self._offer, None
        self._current = current = await self._lane.in_thread(lambda _: self._join(effect))
        if current.secure.is_masked:
            log.info("goes on with an update that is masked already")
        else:
            current.update = await self._trained(effect, current, offer)
        outcome = current.update.outcome if current.update is not None else None
        with current.traced.work(Work.ADVERTISE):
            await self._send(effect.round, current.secure.finish_training(outcome))

    def _join(self, effect: StartTraining) -> _Current:
        """Open the round's folder, or the one that another process of this site has left. Blocks."""
        assignment, settings = effect.assignment, self._settings
        round_ref = effect.round
        notes = self._notes_of(round_ref)
        opening = notes.begin(round_ref, settings.process_id)
        secure = SecureRound(
            assignment=assignment,
            assignment_digest=effect.digest,
            index=effect.index,
            identity_key=settings.identity_key,
            minimum_bundle_threshold=settings.minimum_bundle_threshold,
            notes=notes,
            opening=opening,
            keeper=settings.keeper,
        )
        folder = RoundFolder(notes=notes, opening=opening)
        traced = settings.tracer.of(
            RoundTrace(run_id=assignment.run_id, job_id=assignment.job_id, round_number=assignment.round_number)
        )
        return _Current(secure=secure, folder=folder, index=effect.index, number=assignment.round_number, traced=traced)

    async def _trained(self, effect: StartTraining, current: _Current, offer: UnmaskedUpdate | None) -> UnmaskedUpdate:
        assignment, number = effect.assignment, current.number
        job = self._jobs.job(assignment.plan_digest)
        trained, scored = assignment.blocks_of(effect.index), assignment.scored_by(effect.index)
        self._training.check(job, trained | scored)
        self._board.forget_cost()
        with self._board.doing(AgentActivity.DOWNLOADING, number), current.traced.work(Work.DOWNLOAD):
            version = await self._fetch_version(assignment, effect.index)
        heads = sum(block.kind is BlockKind.HEAD for block in trained)
        log.info("training", heads=heads, steps=job.plan.training.steps)
        started = time.monotonic()
        with self._board.doing(AgentActivity.TRAINING, number), current.traced.work(Work.TRAIN):
            try:
                update = await self._lane.in_thread(
                    lambda cancelled: self._training.run(job, version, effect, current.folder, offer, cancelled)
                )
            except OutgrownError as error:
                self._jobs.correct(job, job.plan.matrices_reached(trained | scored), error.seen_bytes)
                raise
            except TrainingKilledError:
                self._jobs.suspect(job, job.plan.matrices_reached(trained | scored))
                raise
        log.info("trained", seconds=round(time.monotonic() - started, 1))
        return update

    async def _fetch_version(self, assignment: Assignment, index: int) -> Path:
        """Return the file of the version to train from; raise ResourceError where the round's files have no room."""
        cache, digest = self._downloads.cache, assignment.state_digest
        await asyncio.to_thread(cache.use_version, assignment.plan_digest, digest)
        version = await self._downloads.fetch(digest)
        await asyncio.to_thread(cache.make_room, round_files_bytes(assignment, index))
        return version

    async def deal_shares(self, effect: DealShares) -> None:
        """Check the roster and send sealed shares."""
        current = self._in_round_of(effect.round)
        secure = current.secure
        with current.traced.work(Work.SHARE):
            shares = await self._lane.in_thread(lambda _: secure.share(effect.roster, effect.round.roster_digest))
            await self._send(effect.round, shares)

    async def upload(self, effect: UploadMasked) -> None:
        """Mask the update and send it."""
        current, number = self._in_round_of(effect.round), effect.round.round_number
        secure = current.secure
        with self._board.doing(AgentActivity.MASKING, number), current.traced.work(Work.MASK):
            masked = await self._lane.in_thread(lambda _: secure.mask(effect.delivery))
        await self._settings.audit.sending(secure.assignment, secure.assignment_digest, masked.header)
        log.info("uploading", bytes=masked.header.size_bytes)
        with self._board.doing(AgentActivity.UPLOADING, number), current.traced.work(Work.UPLOAD):
            await self._uploads.send(
                masked.header,
                masked.path,
                effect.round,
                self._board.progress,
            )
        secure.uploaded()
        await self._settings.audit.sent(secure.assignment_digest)
        log.info("uploaded")

    async def confirm(self, effect: SignSurvivorSet) -> None:
        """Check and sign the survivor set."""
        current = self._in_round_of(effect.round)
        secure = current.secure
        with current.traced.work(Work.CONFIRM):
            signature = await self._lane.in_thread(lambda _: secure.confirm(effect.survivors))
            await self._settings.audit.survivors(secure.assignment, secure.assignment_digest, effect.survivors)
            await self._send(effect.round, signature)

    async def reveal(self, effect: RevealShares) -> None:
        """Check who signed and send the shares."""
        current = self._in_round_of(effect.round)
        secure = current.secure
        with current.traced.work(Work.REVEAL):
            await self._send(effect.round, await self._lane.in_thread(lambda _: secure.reveal(effect.request)))

    async def keep_head(self, effect: KeepHead) -> None:
        """Write down where the coordinator's audit chain was when a round ended."""
        await self._settings.audit.witness(effect.run_id, effect.round_number, effect.sequence, effect.head)

    async def note_end(self, effect: CloseRound) -> None:
        """Write down what became of the round, if anything of it left."""
        await self._settings.audit.ended(effect.assignment_digest, effect.outcome)

    def close(self) -> None:
        """Drop the round's secrets and files, those of an earlier process too, and its update unless never masked."""
        if self._current is not None:
            if self._current.secure.holds_clear_update:
                self._offer = self._current.update
            self._current.secure.close()
            self._current = None
        shutil.rmtree(self._settings.folder, ignore_errors=True)

    def forget(self, plan_digest: Digest) -> None:
        """Drop what is kept for a job that is over."""
        if self._offer is not None and self._offer.plan_digest == plan_digest:
            self._offer = None

    def _in_round_of(self, reference: RoundRef) -> _Current:
        current = self._in_round()
        if current.secure.assignment_digest != reference.assignment_digest:
            raise _not_in_it()
        return current

    def _in_round(self) -> _Current:
        if self._current is None:
            raise _not_in_it()
        return self._current

    async def _send(self, reference: RoundRef, message: AgentMessage) -> None:
        index = self._in_round().index
        await self._coordinator.submit(Submission(round=reference, index=index, message=message))


def _not_in_it() -> StateError:
    return StateError(
        "This site is not in that round any more.",
        reason=ErrorReason.WRONG_STATE,
        next_step="Nothing to do: it takes part in the next one.",
    )
