"""One running round: feeds the machine, stores every step before anyone is told, runs timers and workers.

The machine takes events as they come. What they did is stored in their order, all that came in the meantime in one
transaction (`coordinator.rounds.step_queue`), and then carried out, whatever becomes of the calls that brought them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import structlog

from coordinator.leases.lease import LeaseLost
from coordinator.rounds.course import RoundSetup
from coordinator.rounds.effects import (
    CombineAndEvaluate,
    Commit,
    Effect,
    EndRound,
    PhaseClosed,
    RecordDrop,
    RunUnmask,
    SendInstruction,
    SetDeadline,
    SignRosters,
)
from coordinator.rounds.events import (
    DeadlinePassed,
    EvaluationDone,
    Event,
    MessageReceived,
    RostersSigned,
    RoundBegun,
    RoundResumed,
    SiteGone,
    StopRequested,
    UnmaskDone,
    UploadAnnounced,
    UploadArrived,
    WorkFailed,
)
from coordinator.rounds.failures import explain_failure, will_pass
from coordinator.rounds.journal import entry_of, opening_entries
from coordinator.rounds.machine import RoundMachine
from coordinator.rounds.ports import Job, Timer
from coordinator.rounds.recording import RoundNotes, record_round
from coordinator.rounds.results import NewVersion, SummedRound
from coordinator.rounds.services import Services
from coordinator.rounds.standing import Standing
from coordinator.rounds.states import RoundState
from coordinator.rounds.step_queue import StepQueue, TakenStep
from coordinator.rounds.storing import Step, store_step
from coordinator.rounds.suspicions import find_roster, most_liars
from coordinator.store.records import RoundEntry, RoundRecord
from ravan.codec.secagg_messages import Submission
from ravan.errors import ErrorReason, ProtocolError, RavanError, StateError
from ravan.ids import SiteId
from ravan.manifest.instructions import RoundRef
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.secagg.messages import MaskedHeader
from ravan.secagg.unmask import UnmaskJob
from ravan.tracing.spans import RoundTrace, Work

log = structlog.stdlib.get_logger(__name__)


class ActiveRound:
    """Run one round to its end; `ended` tells when, `record` and `summed` what came of it."""

    def __init__(
        self,
        services: Services,
        job: Job,
        setup: RoundSetup,
        notes: RoundNotes,
        standing: Standing,
    ) -> None:
        """Plan the round; raise ProtocolError when the assignment breaks a rule of secure aggregation."""
        self.machine = RoundMachine(setup)
        self.ended = asyncio.Event()
        self.detail = ""
        """Why the round did not commit, one sentence."""
        self.failure: BaseException | None = None
        """What kept a step from being stored; the round then stands still."""
        self._services = services
        self._job = job
        self._notes = notes
        self._standing = standing
        self._timer: Timer | None = None
        self._kept: set[bytes] = set()
        """Digests of the messages in the journal; a site may send one again as often as it likes."""
        self._steps = StepQueue(services.errands, self._store, self._stand_still)
        self._headers: dict[int, tuple[SiteId, MaskedHeader]] = {}
        self._due: Sequence[Effect] = ()
        """Work that an earlier process had begun."""
        self._traced = services.tracer.of(
            RoundTrace(run_id=setup.assignment.run_id, job_id=job.job_id, round_number=setup.assignment.round_number)
        )
        self._round_log = log.bind(job=job.plan.job_name, round=setup.assignment.round_number, **self._traced.log_facts)

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        return self._round_log.bind(phase=self.machine.phase.value)

    @property
    def number(self) -> int:
        """Return the round's number."""
        return self.machine.setup.assignment.round_number

    @property
    def record(self) -> RoundRecord:
        """Return the round as it stands."""
        return record_round(self.machine, self._notes)

    @property
    def summed(self) -> SummedRound | None:
        """Return the unmasked sums, once there are any."""
        return self._notes.summed

    @property
    def present(self) -> tuple[SiteId, ...]:
        """Return the members that have not left."""
        members = self.machine.setup.assignment.members
        return tuple(member.site for member in members if self.machine.takes_part(member.site))

    async def begin(self) -> None:
        """Ask the selected sites to train."""
        setup, candidates = self.machine.setup, self._services.candidates
        sites = [member.site for member in setup.assignment.members]
        self._log.info("round begins", sites=sites, training_deadline_s=round(setup.training_deadline_s))
        self._services.metrics.round_began(setup.training_deadline_s)
        opening = opening_entries(setup, candidates.processes(sites))
        await self._handle(RoundBegun(at=self._now()), opening)

    def replay(self, events: Sequence[Event]) -> None:
        """Take what an earlier process has stored, and tell nobody; raise RavanError where that does not fit."""
        effects: list[Effect] = []
        for event in events:
            effects = [*effects, *self._advance(event)]
            self._note(event)
        if not all(self._payload_of(index).is_file() for index in self._headers):
            raise StateError("A masked vector of the round is not staged any more.", reason=ErrorReason.WRONG_STATE)
        self._due = [effect for effect in effects if isinstance(effect, RunUnmask)]

    async def resume(self, until: float) -> None:
        """Go on after a replay; sites have at least until this time to come back and answer."""
        self._log.info("round resumed", awaited=self.machine.awaited)
        await self._handle(RoundResumed(at=self._now(), until=until))
        self._services.metrics.phase_changed(self._job.job_id, self.machine.phase)
        for effect in self._due:
            self._perform(effect)

    async def take_message(self, site: SiteId, submission: Submission) -> None:
        """Take a message of secure aggregation; a site that breaks a rule of the protocol is dropped."""
        event = MessageReceived(
            at=self._now(),
            site=site,
            reference=submission.round,
            index=submission.index,
            message=submission.message,
        )
        await self._handle_of(site, event)

    async def announce_upload(self, site: SiteId, reference: RoundRef, header: MaskedHeader) -> None:
        """Check a header before its payload is staged."""
        await self._handle_of(site, UploadAnnounced(at=self._now(), site=site, reference=reference, header=header))

    async def take_upload(self, site: SiteId, reference: RoundRef, header: MaskedHeader) -> None:
        """Take a payload that is staged whole."""
        first = header.index not in self._headers
        await self._handle_of(site, UploadArrived(at=self._now(), site=site, reference=reference, header=header))
        if first:
            self._services.metrics.masked_bytes(header.size_bytes)

    def require_room(self) -> None:
        """Raise what keeps the round standing still, if it does: nothing is acknowledged that is not stored."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)

    async def lose(self, site: SiteId, reason: DropReason) -> None:
        """Go on without a site; one that is not in the round changes nothing."""
        # Who is still there is asked anew when a round that stands still is taken up.
        if self.failure is None and self.machine.takes_part(site):
            await self._handle(SiteGone(at=self._now(), site=site, reason=reason))

    def find_accused(self, accuser: SiteId, suspect: int) -> tuple[SiteId, int] | None:
        """Return whom a member's complaint is about, and how many may lie; None when it cannot have had its shares."""
        index = next((m.index for m in self.machine.setup.assignment.members if m.site == accuser), None)
        roster = None if index is None else find_roster(self.machine.rosters, index, suspect)
        return None if roster is None else (self.machine.site(suspect), most_liars(roster))

    async def stop(self) -> None:
        """End the round at an operator's wish."""
        await self._handle(StopRequested(at=self._now()), unless_ended=True)

    def note_cost(self, site: SiteId, heartbeat: Heartbeat) -> None:
        """Keep what the round costs a site, for the record."""
        if heartbeat.round_number == self.number and self.machine.takes_part(site):
            self._notes.costs[site] = heartbeat

    def close(self) -> None:
        """Let go of the timer; the round stays as it is stored."""
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> float:
        return self._services.clock.now()

    async def _handle_of(self, site: SiteId, event: Event) -> None:
        try:
            await self._handle(event)
        except ProtocolError as error:
            self._log.warning("a site broke the protocol", site=site, error=str(error))
            await self.lose(site, DropReason.PROTOCOL)
            raise

    async def _handle(self, event: Event, opening: Sequence[RoundEntry] = (), *, unless_ended: bool = False) -> None:
        """Return once the event is stored with all that follows from it."""
        if isinstance(self.failure, LeaseLost):
            # Whoever leads the round now has to hear of it.
            raise self.failure
        if unless_ended and (self.failure is not None or self.machine.outcome is not None):
            return
        self.require_room()
        effects = self._advance(event)
        entries = (*opening, *self._note(event))
        if entries or effects:
            await self._steps.put(entries, effects)

    def _advance(self, event: Event) -> tuple[Effect, ...]:
        effects = self.machine.handle(event)
        for effect in effects:
            if isinstance(effect, SignRosters):
                signed = tuple(map(self._services.signatory.sign_roster, effect.rosters))
                effects += self.machine.handle(RostersSigned(at=event.at, signed=signed))
        return effects

    def _note(self, event: Event) -> tuple[RoundEntry, ...]:
        """Remember what the record shows of an event, and return what to keep of it in the journal."""
        entry = entry_of(event)
        if entry is None:
            return ()
        if isinstance(event, MessageReceived | UploadArrived):
            digest = hashlib.sha256(f"{entry.kind} {entry.site} ".encode() + entry.payload).digest()
            if digest in self._kept:
                return ()
            self._kept.add(digest)
        if isinstance(event, UploadArrived):
            self._headers[event.header.index] = event.site, event.header
            self._notes.uploads[event.site] = event.header.size_bytes
        return (entry,)

    async def _store(self, taken: Sequence[TakenStep]) -> None:
        """Store what has been taken in one transaction, and carry it out."""
        effects = [effect for each in taken for effect in each.effects]
        job = None
        for effect in effects:
            if isinstance(effect, CombineAndEvaluate):
                self._notes.summed = effect.summed
            elif isinstance(effect, Commit):
                self._notes.version = effect.version
                job = self._standing.adopt(effect.version)
        entries = [entry for each in taken for entry in each.entries]
        step = Step(entries=entries, effects=effects, record=self.record, job=job)
        audit = self._services.audit
        with self._traced.work(Work.COMMIT) if job is not None else nullcontext():
            await self._services.store.transact(
                "advance_round", lambda transaction: store_step(transaction, audit, step)
            )
        self._carry_out(effects)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        if not effects:
            return
        for effect in effects:
            self._perform(effect)
        for site in {effect.site for effect in effects if isinstance(effect, SendInstruction)}:
            self._services.mailbox.wake(site)
        self._services.metrics.phase_changed(self._job.job_id, None if self.ended.is_set() else self.machine.phase)
        self._services.changes.note(self._job.job_id)

    def _perform(self, effect: Effect) -> None:
        services = self._services
        match effect:
            case SetDeadline(state=state, after_s=after_s):
                self._set_timer(state, after_s)
            case RunUnmask(jobs=works):
                services.errands.start(self._unmask(works), "unmask")
            case CombineAndEvaluate(summed=summed):
                services.errands.start(self._make_version(summed), "evaluate")
            case PhaseClosed(phase=phase, ended_at=ended_at, seconds=seconds, sites=sites):
                services.metrics.phase_ended(phase, seconds, self._traced.trace_id)
                self._traced.phase_ended(phase, ended_at=ended_at, seconds=seconds, sites=sites)
                self._log.info("phase closed", phase=phase.value, sites=sites, seconds=round(seconds, 3))
            case RecordDrop(site=site, phase=phase, reason=reason):
                services.metrics.site_dropped(phase, reason)
                services.candidates.release(site, self._job.job_id)
                self._log.warning("site dropped", site=site, phase=phase.value, reason=reason.value)
            case Commit(version=version):
                self._report(version)
            case EndRound(outcome=outcome, detail=detail):
                self._end(outcome, detail)
            case _:
                pass

    def _set_timer(self, state: RoundState, after_s: float | None) -> None:
        self.close()
        if after_s is not None:
            self._timer = self._services.timers.call_at(self._now() + after_s, lambda: self._ring(state))

    def _ring(self, state: RoundState) -> None:
        event = DeadlinePassed(at=self._now(), state=state)
        self._services.errands.start(self._handle(event), f"deadline of {state}")

    def _report(self, version: NewVersion) -> None:
        self._services.metrics.model_evaluated(self._job.plan.job_name, version.evaluation)
        for survivors in self.record.cohorts.values():
            self._services.metrics.head_cohort(survivors)

    def _end(self, outcome: RoundOutcome, detail: str) -> None:
        self.detail = self.detail or detail
        record = self.record
        self._services.metrics.round_ended(outcome, selected=len(record.selected), counted=len(record.completed))
        self._traced.round_ended(began_at=record.started_at, outcome=outcome, sites=len(record.completed))
        self._log.info("round ended", outcome=outcome.value, accuracy=record.accuracy, detail=self.detail)
        self.let_go()

    def _stand_still(self, error: BaseException) -> None:
        self._log_failure("the round stands still", error)
        self.failure = error
        self.let_go()

    def let_go(self) -> None:
        """Release timer and sites; what is stored of the round stays."""
        self.close()
        for member in self.machine.setup.assignment.members:
            self._services.candidates.release(member.site, self._job.job_id)
        self.ended.set()

    def _log_failure(self, what: str, error: BaseException) -> None:
        # A refusal explains itself; a trace is for what nobody foresaw.
        trace = None if isinstance(error, RavanError) else error
        self._log.error(what, error=str(error), exc_info=trace)

    # Workers

    def _payload_of(self, index: int) -> Path:
        site, header = self._headers[index]
        run_id = self.machine.setup.assignment.run_id
        return self._services.uploads.path_of(run_id, self.number, site, header.sha256)

    async def _unmask(self, works: Sequence[UnmaskJob]) -> None:
        try:
            payloads = {index: self._payload_of(index) for work in works for index in work.survivor_set.survivors}
            with self._traced.work(Work.UNMASK):
                summed = await self._services.workshop.unmask(self._job, works, payloads)
        except Exception as error:
            await self._give_up(error)
            return
        self._services.metrics.unmasked(summed.seconds, self._traced.trace_id)
        await self._handle(UnmaskDone(at=self._now(), summed=summed), unless_ended=True)

    async def _make_version(self, summed: SummedRound) -> None:
        workshop = self._services.workshop
        try:
            before = self.machine.setup.assignment.state_digest
            with self._traced.work(Work.COMBINE):
                digest = await workshop.combine(self._job, self.number, before, summed)
            with self._traced.work(Work.EVALUATE):
                evaluation = await workshop.evaluate(self._job, digest)
        except Exception as error:
            await self._give_up(error)
            return
        self._notes.measured = evaluation
        version = NewVersion(state_digest=digest, evaluation=evaluation)
        event = EvaluationDone(at=self._now(), version=version, refusal=self._standing.judge(evaluation))
        await self._handle(event, unless_ended=True)

    async def _give_up(self, error: Exception) -> None:
        if will_pass(error):
            self._stand_still(error)
            return
        self._log_failure("a worker gave up", error)
        outcome, self.detail = explain_failure(error)
        await self._handle(WorkFailed(at=self._now(), outcome=outcome), unless_ended=True)
