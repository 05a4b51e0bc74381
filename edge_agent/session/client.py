"""The session's shell: hears instructions, lets the machine decide, does the work, shows signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from edge_agent.hardware.probe import HardwareProbe
from edge_agent.host.watch import HostWatch
from edge_agent.serving.collector import VersionCollector
from edge_agent.session.acquaintance_file import AcquaintanceFile
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.connection import Coordinator
from edge_agent.session.effects import (
    CloseRound,
    DealShares,
    Effect,
    ForgetJob,
    KeepHead,
    Leave,
    MeetMembers,
    Note,
    RememberRound,
    ReportProfile,
    RevealShares,
    SignSurvivorSet,
    StartPreparation,
    StartTraining,
    UploadMasked,
)
from edge_agent.session.events import (
    AssignmentReceived,
    Event,
    InstructionRefused,
    PlanReceived,
    PreparationFailed,
    Prepared,
    RosterReceived,
    StopRequested,
    TimelineChanged,
)
from edge_agent.session.failures import drop_reason, round_failure
from edge_agent.session.job_desk import JobDesk
from edge_agent.session.lane import Lane
from edge_agent.session.ledger import RoundLedger
from edge_agent.session.machine import SessionMachine
from edge_agent.session.outdated import say_whether_outdated
from edge_agent.session.reconnect import Backoff
from edge_agent.session.renewals import Renewals
from edge_agent.session.round_desk import RoundDesk
from edge_agent.session.stream import Unreadable
from edge_agent.worker.messages import WorkFaultError
from ravan.clock import Clock
from ravan.codec.documents import open_document
from ravan.errors import ErrorReason, IdentityError, RavanError, StateError
from ravan.ids import Digest, JobId
from ravan.manifest.documents import DocumentKind
from ravan.manifest.instructions import ExchangeShares, Greeting, Instruction, Numbered, Prepare, RoundRef, Train
from ravan.manifest.phases import DropReason, RoundPhase
from ravan.manifest.profile import HardwareProfile
from ravan.rpc.clock_faults import clocks_differ

log = structlog.stdlib.get_logger(__name__)

LEAVE_PATIENCE_S: Final = 5.0
"""Longest that ending the agent waits for the coordinator to hear of it."""

_FIRST_INTERVAL_S: Final = 5
"""Between heartbeats until the coordinator has said."""


@dataclass(slots=True, kw_only=True, eq=False)
class AgentSession:
    """Everything an agent does while it runs."""

    process_id: bytes
    manifest_key: bytes = field(repr=False)
    machine: SessionMachine
    ledger: RoundLedger
    acquaintances: AcquaintanceFile
    coordinator: Coordinator
    renewals: Renewals
    jobs: JobDesk
    rounds: RoundDesk
    versions: VersionCollector
    lane: Lane
    board: ActivityBoard
    watch: HostWatch
    probe: HardwareProbe
    clock: Clock
    _sequence: int = field(default=0, init=False)
    _timeline: bytes = field(default=b"", init=False)
    """Which of the coordinator's the sequence numbers belong to."""
    _interval_s: int = field(default=_FIRST_INTERVAL_S, init=False)
    _backoff: Backoff = field(default_factory=Backoff, init=False)
    _connected: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _reported: HardwareProfile | None = field(default=None, init=False)
    _calls: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _order: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """One event's effects are carried out before the next event is looked at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then leave cleanly; raise only what cannot be lived with."""
        work = (
            self._listen(),
            self._beat(),
            self.lane.run(),
            self.watch.run(),
            self.renewals.run(),
            self.versions.run(),
            _until(stop),
        )
        tasks = [asyncio.create_task(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end(tasks)

    def describe(self) -> str:
        """Say in a few words how it stands with the coordinator, and what is being done."""
        line = "connected" if self._connected.is_set() else "waiting for the coordinator"
        return f"{line}; {self.board.describe()}"

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self.jobs.hurry()
        await self._handle(StopRequested())
        if self._calls:
            await asyncio.wait(self._calls, timeout=LEAVE_PATIENCE_S)
        for task in [*tasks, *self._calls]:
            task.cancel()
        await asyncio.gather(*tasks, *self._calls, return_exceptions=True)
        self.rounds.close()

    async def _listen(self) -> None:
        """Keep a stream of instructions open; whatever breaks it is said once and tried again."""
        said = ""
        while True:
            try:
                async with aclosing(self.coordinator.watch(self.process_id, self._sequence)) as messages:
                    async for message in messages:
                        self._backoff.succeeded()
                        said = ""
                        await self._hear(message)
                sentence, next_step = "The coordinator ended the connection.", "Waiting for it to come back."
            except RavanError as error:
                if isinstance(error, IdentityError) and error.reason is ErrorReason.IDENTITY_REVOKED:
                    raise
                sentence, next_step = str(error), error.next_step
            self._connected.clear()
            if sentence != said:
                log.warning(sentence, next_step=next_step)
                said = sentence
            await asyncio.sleep(self._backoff.next_pause_s())

    async def _hear(self, message: Greeting | Numbered | Unreadable) -> None:
        if isinstance(message, Greeting):
            await self._greeted(message)
            return
        try:
            if isinstance(message, Unreadable):
                raise message.error
            event = self._event_of(message.instruction)
            self.versions.hear(message.instruction)
        except RavanError as error:
            log.error("refused an instruction", why=str(error), reason=error.reason.value, next_step=error.next_step)
            event = InstructionRefused()
        await self._handle(event)
        self._sequence = max(self._sequence, message.sequence)

    async def _greeted(self, greeting: Greeting) -> None:
        await self._follow_timeline(greeting.timeline)
        self._interval_s, self._backoff.spread_s = greeting.heartbeat_interval_s, greeting.return_spread_s
        log.info("connected", coordinator=self.coordinator.address)
        if (fault := clocks_differ(self.clock.now(), greeting.coordinator_time)) is not None:
            log.warning(str(fault), next_step=fault.next_step)
        say_whether_outdated(greeting)
        self._reported = None
        self._connected.set()
        self.board.announce()
        if greeting.hand_over:
            await self._follow(greeting.hand_over)

    async def _follow(self, hand_over: str) -> None:
        try:
            await self.renewals.follow(hand_over)
        except IdentityError as error:
            log.error("refused another certificate authority", why=str(error), next_step=error.next_step)

    async def _follow_timeline(self, timeline: bytes) -> None:
        """Start over with a coordinator that was put back to a backup; raise StateError to have the stream anew."""
        before, self._timeline = self._timeline, timeline or self._timeline
        if before in (b"", self._timeline):
            return
        self._sequence = 0
        await self._handle(TimelineChanged())
        raise StateError(
            "The coordinator was put back to a backup; this site starts over with it.",
            reason=ErrorReason.WRONG_STATE,
            next_step="Nothing to do: jobs that go on are prepared again.",
        )

    def _event_of(self, instruction: Instruction) -> Event:
        """Verify signed documents; nothing of one whose signature is wrong is looked at."""
        key = self.manifest_key
        match instruction:
            case Prepare():
                plan, digest = open_document(DocumentKind.PLAN, instruction.plan, key)
                return PlanReceived(plan=plan, digest=digest)
            case Train():
                assignment, digest = open_document(DocumentKind.ASSIGNMENT, instruction.assignment, key)
                return AssignmentReceived(assignment=assignment, digest=digest)
            case ExchangeShares():
                roster, digest = open_document(DocumentKind.ROSTER, instruction.roster, key)
                return RosterReceived(roster=roster, digest=digest)
            case _:
                return instruction

    async def _beat(self) -> None:
        """Show signs of life at the coordinator's interval and when the activity changes; report limits that moved."""
        while True:
            await self._connected.wait()
            try:
                await self._report_hardware()
                await self.coordinator.heartbeat(self.board.heartbeat())
            except RavanError as error:
                # The stream says what is wrong with the line; here it would be said twice.
                log.debug("heartbeat failed", why=str(error))
                await asyncio.sleep(1)
            await self.board.changed(self._interval_s)

    async def _report_hardware(self) -> None:
        profile = await asyncio.to_thread(self.probe.read)
        if self._reported is not None and _limits_of(profile) == _limits_of(self._reported):
            return
        await self.coordinator.report_hardware(profile)
        log.info(
            "reported hardware",
            cores=profile.cores,
            ram_limit_mb=profile.ram_limit_bytes >> 20,
            limited_by=profile.ram_limit_source.value,
        )
        self._reported = profile

    async def _handle(self, event: Event) -> None:
        async with self._order:
            effects = self.machine.handle(event)
            try:
                for effect in effects:
                    await self._carry_out(effect)
            except (RavanError, OSError) as error:
                self._give_round_up(error)

    def _give_round_up(self, error: RavanError | OSError) -> None:
        """Leave the round whose next step could not be noted on disk; what was to follow it is not done."""
        active = self.machine.active_round
        if active is None:
            raise error
        _say_failure(error)
        self._later(round_failure(active.assignment_digest, error))

    async def _carry_out(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one line a kind
        match effect:
            case StartPreparation():
                self.lane.submit(effect.digest, lambda: self._prepare(effect))
            case ReportProfile():
                self._call(self._report(effect))
            case MeetMembers():
                await self._meet(effect)
            case RememberRound():
                # The notes first: a round in the ledger without them could not be gone on with.
                await asyncio.to_thread(self.rounds.begin, effect.round)
                await asyncio.to_thread(self.ledger.remember, effect.round.run_id, effect.round.round_number)
            case StartTraining():
                self._step(effect.round, RoundPhase.TRAINING, lambda: self.rounds.train(effect))
            case DealShares():
                self._step(effect.round, RoundPhase.SHARING, lambda: self.rounds.deal_shares(effect))
            case UploadMasked():
                self._step(effect.round, RoundPhase.UPLOADING, lambda: self.rounds.upload(effect))
            case SignSurvivorSet():
                self._step(effect.round, RoundPhase.CONFIRMING, lambda: self.rounds.confirm(effect))
            case RevealShares():
                self._step(effect.round, RoundPhase.REVEALING, lambda: self.rounds.reveal(effect))
            case KeepHead():
                await self.rounds.keep_head(effect)
            case CloseRound():
                await self.lane.cancel(effect.assignment_digest)
                number = self.rounds.number
                self.rounds.close()
                await self.rounds.note_end(effect)
                log.info("round over", round=number, outcome=effect.outcome.value if effect.outcome else "left")
            case Leave():
                self._call(self._leave(effect))
            case ForgetJob():
                await self.lane.cancel(effect.plan_digest)
                self.jobs.forget(effect.plan_digest)
                self.rounds.forget(effect.plan_digest)
                log.info("job over")
            case Note():
                log.warning(effect.sentence, next_step=effect.next_step)

    def _step(self, of: RoundRef, phase: RoundPhase, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Queue one step of a round, which all lines of the log about it name; when it fails, the round is left."""
        assignment_digest = of.assignment_digest

        async def run() -> None:
            with structlog.contextvars.bound_contextvars(round=of.round_number, phase=phase.value):
                try:
                    await work()
                except Exception as error:  # whatever it is, the agent lives on
                    _say_failure(error)
                    self._later(round_failure(assignment_digest, error))

        self.lane.submit(assignment_digest, run)

    async def _meet(self, effect: MeetMembers) -> None:
        """Refuse a changed key; say who is new, with no more of a key than its fingerprint."""
        meeting = await asyncio.to_thread(self.acquaintances.meet, effect.members, self.clock.now())
        sites = ", ".join(f"{each.site} {each.fingerprint}" for each in meeting.newcomers)
        if meeting.first:
            log.info("first round: these sites are remembered with their keys", sites=sites)
        elif sites:
            next_step = "If nobody told you of them, ask headquarters and the other plants who they are."
            log.warning("new sites in this federation", sites=sites, next_step=next_step)

    async def _prepare(self, effect: StartPreparation) -> None:
        try:
            profile = await self.jobs.prepare(effect.plan, effect.digest)
        except Exception as error:  # whatever it is, the agent lives on
            _say_failure(error)
            self._later(PreparationFailed(digest=effect.digest, reason=drop_reason(error)))
        else:
            await self.versions.prepared(effect.digest)
            log.info("ready", job=effect.plan.job_name)
            self._later(Prepared(digest=effect.digest, profile=profile))

    async def _report(self, effect: ReportProfile) -> None:
        try:
            await self.coordinator.report_job(effect.job_id, effect.profile)
        except RavanError as error:
            log.warning("the coordinator does not take this job's measurement", why=str(error))

    async def _leave(self, effect: Leave) -> None:
        named = {"round": effect.round_number} if effect.round_number else {"job": effect.job_id or "unknown"}
        log.info("leaving", **named, reason=effect.reason.value)
        try:
            if effect.short_for is not None:
                await self._report_shortage(effect.short_for, effect.job_id)
            await self.coordinator.leave(effect)
        except RavanError as error:
            log.info("the coordinator does not wait for this site any more", why=str(error))

    async def _report_shortage(self, plan_digest: Digest, job_id: JobId | None) -> None:
        """Report what holds now before the round goes on without this site: the next one is allotted by it."""
        await self._report_hardware()
        profile = self.jobs.profile_of(plan_digest)
        if profile is not None and job_id is not None:
            await self.coordinator.report_job(job_id, profile)

    def _later(self, event: Event) -> None:
        """Handle an event outside the lane, since its effects may cancel what the lane is doing."""
        self._call(self._handle(event))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _limits_of(profile: HardwareProfile) -> tuple[object, ...]:
    return profile.ram_limit_bytes, profile.ram_limit_source, profile.cores


def _say_failure(error: Exception) -> None:
    if isinstance(error, RavanError):
        log.error(str(error), next_step=error.next_step, reason=error.reason.value, kind=type(error).__name__)
    elif drop_reason(error) is DropReason.MEMORY:
        log.error("The agent ran into its memory limit.", next_step="Raise the limit, or close other programs.")
    elif isinstance(error, WorkFaultError):
        log.error(
            str(error), next_step="The line before has the trace; `ravan-agent support-bundle` collects it for HQ."
        )
    else:
        log.error("an unexpected error", exc_info=error)
