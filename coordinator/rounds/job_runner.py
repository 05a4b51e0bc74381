"""One active job: waits for sites, starts one round after another, and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from coordinator.allocation.policy import AllocationPolicy
from coordinator.audit.entries import COORDINATOR
from coordinator.jobs.measure import Measure
from coordinator.leases.lease import LeaseLost
from coordinator.rounds.candidates import Lineup
from coordinator.rounds.gathering import Gathering, gather
from coordinator.rounds.history import count_committed, following_number, last_clips, last_end
from coordinator.rounds.plateau import find_plateau
from coordinator.rounds.ports import Job, Timer
from coordinator.rounds.recovery import LeftRound, find_left_round
from coordinator.rounds.resting import Rest, find_rests
from coordinator.rounds.selection import SETTLE_S, Selection, Waiting, find_claim, select
from coordinator.rounds.services import Services
from coordinator.rounds.setbacks import Setbacks
from coordinator.rounds.standing import Standing
from coordinator.rounds.suspicions import Suspicions
from coordinator.store.records import JobRecord, RoundRecord, SiteRecord
from ravan.errors import RavanError, ResourceError
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.phases import ENDED_JOBS, DropReason, JobState, RoundOutcome

if TYPE_CHECKING:
    from coordinator.rounds.active_round import ActiveRound
    from coordinator.rounds.opening import RoundOpener

log = structlog.stdlib.get_logger(__name__)

RETURN_S: Final = 75.0
"""How long sites may take to come back to a coordinator that was down: they look for it every 30 s at most, and the
line under that dials every 30 s at most."""

_REST_OF_LOOKING: Final = 2
"""Pause between two looks at a fleet that is waited for, in times that the first took: it is not read all the time."""


class JobRunner:
    """Run one job in a task of its own; the only writer of the job's record."""

    def __init__(
        self,
        services: Services,
        job: Job,
        record: JobRecord,
        *,
        on_release: Callable[[], None],
        why_queued: Callable[[], str],
        settle_s: float = SETTLE_S,
    ) -> None:
        """Take over a job in the state of its record.

        `on_release` hears that other jobs may have what this one had or wanted; `why_queued` says why it may not run.
        """
        self.job = job
        self.round: ActiveRound | None = None
        self._given_up: ActiveRound | None = None
        """The last round, when it came to nothing: the last words against a site may come after its end."""
        self.rests: Mapping[SiteId, Rest] = {}
        """Connected sites that the newest round left out since they keep failing."""
        self._forgiven: int | None = 0
        """Failures up to this round count no more; None: all so far."""
        self._stalled: ActiveRound | None = None
        """The last round, when it stands still for want of room."""
        self._suspicions = Suspicions()
        self._setbacks = Setbacks()
        self._standing = Standing(services, job, record)
        self._services = services
        self._on_release = on_release
        self._why_queued = why_queued
        self._settle_s = settle_s
        self._nudged = asyncio.Event()
        self._stopped = False
        self._stopped_by = COORDINATOR
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._enough_since: float | None = None
        self._looking_s = 0.0
        """What the last look at the fleet took."""
        self._clips: Mapping[BlockId, float] | None = None
        self._norms: Mapping[BlockId, float] = {}
        """Of the heads in the version `_weighed`."""
        self._weighed: Digest | None = None

    @property
    def record(self) -> JobRecord:
        """Return the job's record."""
        return self._standing.record

    def find_round(self, number: int) -> ActiveRound | None:
        """Return the round of this number, None where it does not run; raise what keeps it standing still."""
        if self._stalled is not None and self._stalled.number == number:
            self._stalled.require_room()
        return self.round if self.round is not None and self.round.number == number else None

    def resume_round(self, left: LeftRound) -> None:
        """Take up a round that was running, before `start`; one that cannot be is interrupted at the first turn."""
        for site, process in self._reopen(left).items():
            self._services.candidates.expect(site, process, self.job.job_id)

    def _reopen(self, left: LeftRound) -> Mapping[SiteId, bytes]:
        """Bring a round to where it was and return the processes in it; nothing where that is not possible."""
        reopened = self._opener.reopen(left)
        if reopened is None:
            return {}
        self.round, processes = reopened
        return processes

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=f"job {self.record.name}")

    async def close(self) -> None:
        """Stop where it is; the next start of the coordinator goes on from the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._cancel_timer()
        if self.round is not None:
            self.round.close()

    def served(self) -> frozenset[Digest]:
        """Return the blobs that sites may fetch: the job's files, bases, the newest version and that of the round."""
        plan, versions = self.job.plan, {self.record.state_digest}
        if self.round is not None:
            versions.add(self.round.machine.setup.assignment.state_digest)
        return frozenset(plan.files() | versions | {matrix.basis_digest for matrix in plan.matrices})

    def nudge(self) -> None:
        """Look again whether a round can start."""
        self._nudged.set()

    async def pause(self, by: str) -> None:
        """Start no further rounds; one that runs is finished."""
        message = "Paused by an operator; `job resume` goes on."
        await self._standing.save(by=by, state=JobState.PAUSED, message=message)
        self.nudge()

    async def resume(self, by: str) -> None:
        """Go on, and ask sites that rest again; where that cannot be stored the job stays paused."""
        self._setbacks, self._suspicions = Setbacks(), Suspicions()
        self._forgiven, self.rests = None, {}
        await self._standing.resume(by)
        self.nudge()

    async def accuse(self, accuser: SiteId, round_number: int, suspect: int) -> None:
        """Take a member's word against another's shares; a site that too many name takes no further part."""
        known = (each for each in (self.round, self._given_up) if each is not None and each.number == round_number)
        concerned = next(known, None)
        accused = None if concerned is None else concerned.find_accused(accuser, suspect)
        if concerned is None or accused is None:
            return
        site, tolerated = accused
        log.warning("shares could not be opened", job=self.record.name, of=site, by=accuser)
        if self._suspicions.accuse(accuser, site, tolerated=tolerated):
            next_step = "See what runs on that PC. To let it in again: `job pause`, then `job resume`."
            log.error("a site deals shares that nobody can open", job=self.record.name, site=site, next_step=next_step)
            await concerned.lose(site, DropReason.PROTOCOL)

    async def stop(self, by: str) -> None:
        """End the job and wait until it has."""
        self._stopped, self._stopped_by = True, by
        if self.round is not None:
            await self.round.stop()
        self.nudge()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        await self._lead()
        self._services.turns.forget(self.job.job_id)
        self._on_release()

    async def _lead(self) -> None:
        try:
            if self.round is not None:
                await self._see_through(self.round, self.record, self._go_on(self.round, {}))
            while self.record.state not in ENDED_JOBS:
                try:
                    await self._take_turn()
                except ResourceError as error:
                    await self._standing.pause_for(error)
                    self._on_release()
        except LeaseLost as error:
            log.warning("job left to another process", job=self.record.name, why=str(error))
        except RavanError as error:
            log.warning("job failed", job=self.record.name, error=str(error))
            await self._standing.fail(f"{error} {error.next_step}".strip())
        except Exception:
            log.exception("job failed", job=self.record.name)
            await self._standing.fail("The coordinator failed; its log has the trace.")

    async def _weigh_heads(self) -> None:
        version = self.record.state_digest
        if self.job.file.allocation.policy is AllocationPolicy.WEIGHT and version != self._weighed:
            self._norms = await self._services.workshop.weigh(self.job, version)
            self._weighed = version

    async def _take_turn(self) -> None:
        self._nudged.clear()
        if self._stopped:
            await self._standing.end(JobState.STOPPED, "Stopped by an operator.", self._stopped_by)
            return
        queued = self._why_queued()
        if queued:
            await self._standing.say(queued)
        if not self._may_run():
            self._claim(())
            await self._nudged.wait()
            return
        if self._stalled is not None:
            await self._take_up()
            return
        await self._standing.measure_start()
        await self._weigh_heads()
        gathered = await self._gather()
        enough = self._find_end(gathered.rounds)
        if enough is not None:
            await self._standing.end(JobState.COMPLETED, enough)
            return
        if not self._may_run():
            return  # An operator's word came in the meantime.
        # Nothing may be awaited from here until the sites are engaged: other jobs choose among the same sites.
        selection = self._select(gathered)
        if isinstance(selection, Selection):
            await self._run_round(selection, gathered.sites, gathered.rounds)
        else:
            await self._standing.say(selection.sentence)
            await self._nudged.wait()
            # A thousand sites that become ready one after the other nudge a thousand times.
            await asyncio.sleep(_REST_OF_LOOKING * self._looking_s)

    async def _gather(self) -> Gathering:
        began, audit = time.perf_counter(), self._services.audit
        gathered = await self._services.store.transact(
            "read_fleet", lambda transaction: gather(transaction, audit, self.job)
        )
        self._looking_s = time.perf_counter() - began
        return gathered

    def _may_run(self) -> bool:
        return not (self._stopped or self.record.state is JobState.PAUSED or self._why_queued())

    def _find_end(self, rounds: Sequence[RoundRecord]) -> str | None:
        """Return what to say at the job's end; None while it goes on."""
        if count_committed(rounds) >= self.record.rounds_planned:
            return ""
        file = self.job.file
        start = {Measure.ACCURACY: self.record.accuracy_before, Measure.LOSS: self.record.loss_before}
        return find_plateau(file, rounds, start[file.evaluation.measure]) or None

    def _select(self, gathered: Gathering) -> Selection | Waiting:
        fleet, rounds = gathered.capacities(), gathered.rounds
        for convicted in self._suspicions.convicted:
            self._services.candidates.bar(convicted, self.job.job_id, DropReason.PROTOCOL)
        lineup = self._line_up(rounds)
        if self._forgiven is None:
            self._forgiven = following_number(rounds) - 1
        rests = find_rests([record for record in rounds if record.number > self._forgiven])

        def choose(among: Lineup) -> Selection | Waiting:
            minimum = self._services.minimum_agent_version
            return select(self.job, among, fleet, rounds, self._norms, rests, minimum)

        selection = choose(lineup)
        now = self._services.clock.now()
        resume_at = self._setbacks.resume_at(now)
        if now < resume_at:
            self._claim(())
            self._wake_at(resume_at)
            return selection if isinstance(selection, Waiting) else Waiting(sentence=self._setbacks.sentence)
        if isinstance(selection, Waiting):
            self._enough_since = None
            self._claim(find_claim(lineup, choose))
            return selection
        since = self._enough_since = now if self._enough_since is None else min(now, self._enough_since)
        if lineup.preparing and now < since + self._settle_s:
            self._claim(selection.sites)
            self._wake_at(since + self._settle_s)
            return Waiting(sentence=f"Enough sites are ready; waits a little for {', '.join(lineup.preparing)}.")
        return selection

    def _line_up(self, rounds: Sequence[RoundRecord]) -> Lineup:
        turns = self._services.turns
        turns.enter(self.job.job_id, last_end(rounds, self.record.submitted_at))
        return turns.leave_to_others(self.job.job_id, self._services.candidates.line_up(self.job.job_id))

    def _claim(self, sites: Sequence[SiteId]) -> None:
        if self._services.turns.claim(self.job.job_id, sites):
            self._on_release()

    async def _run_round(
        self, selection: Selection, sites: Mapping[SiteId, SiteRecord], rounds: Sequence[RoundRecord]
    ) -> None:
        services, job = self._services, self.job
        services.candidates.engage(selection.sites, job.job_id)
        services.turns.begin(job.job_id)
        self._on_release()
        self._cancel_timer()
        self._enough_since = None
        before = self.record
        number = following_number(rounds)
        self.round = self._opener.open(selection, sites, number, self._clips or last_clips(rounds))
        self.rests = selection.rests
        services.metrics.sites_resting(job.job_id, len(selection.rests))
        await self._see_through(self.round, before, self._begin(self.round, selection.message))

    async def _begin(self, planned: ActiveRound, remark: str) -> None:
        if self.record.state is JobState.PREPARING or self.record.message != remark:
            if remark:
                log.warning("not all take full part", job=self.record.name, round=planned.number, detail=remark)
            await self._standing.save(state=JobState.RUNNING, message=remark)
        await planned.begin()

    async def _take_up(self) -> None:
        """Go on with the round that stands still; where nothing of it is stored, or too little, it is over."""
        job_id = self.job.job_id
        left = await self._services.store.transact(
            "find_left", lambda transaction: find_left_round(transaction, job_id)
        )
        self._stalled = None
        processes = {} if left is None else self._reopen(left)
        if self.round is not None:
            gone = self._services.candidates.rejoin(processes, job_id)
            await self._see_through(self.round, self.record, self._go_on(self.round, gone))

    async def _go_on(self, left: ActiveRound, gone: Mapping[SiteId, DropReason]) -> None:
        await left.resume(self._services.clock.now() + RETURN_S)
        for site, reason in gone.items():
            await left.lose(site, reason)

    async def _see_through(self, ended: ActiveRound, before: JobRecord, opening: Coroutine[Any, Any, None]) -> None:
        """Lead a round to its end and draw the conclusions; `before` is the job as it was without it."""
        try:
            await opening
            await ended.ended.wait()
        finally:
            if not isinstance(ended.failure, LeaseLost):
                self.round = None
            ended.let_go()
            self._stalled = None if ended.failure is None else ended
        if isinstance(ended.failure, LeaseLost):
            # The round stays, and refuses what is said to it: it goes on at another process.
            raise ended.failure
        self._given_up = ended if ended.summed is None else None
        if ended.failure is not None:
            self._standing.disown(before)
        self._services.turns.end(self.job.job_id, self._services.clock.now())
        self._on_release()
        await self._conclude(ended)

    @property
    def _opener(self) -> RoundOpener:
        # A coordinator that starts without a round in progress is ready before it has read secure aggregation.
        from coordinator.rounds.opening import RoundOpener  # noqa: PLC0415

        return RoundOpener(self._services, self.job, self._standing)

    async def _conclude(self, ended: ActiveRound) -> None:
        if ended.failure is not None:
            raise ended.failure
        number = ended.number
        await asyncio.to_thread(self._services.uploads.discard_round, self.job.plan.run_id, number + 1)
        outcome = ended.machine.outcome
        if outcome is RoundOutcome.COMMITTED and ended.summed is not None:
            self._setbacks = Setbacks()
            from coordinator.rounds.assigning import following_clips  # noqa: PLC0415 - see `_opener`

            self._clips = following_clips(ended.record.clips, ended.summed.total)
        elif outcome is not None and not self._stopped and self.record.state is not JobState.PAUSED:
            self._setbacks.note(number, outcome, ended.detail, self._services.clock.now())
            await self._hold_back()

    async def _hold_back(self) -> None:
        sentence, advice = self._setbacks.sentence, self._setbacks.advice
        if advice:
            await self._standing.save(state=JobState.PAUSED, message=f"{sentence} {advice}")
            self._on_release()
        else:
            await self._standing.say(sentence)

    def _wake_at(self, at: float) -> None:
        self._cancel_timer()
        self._timer = self._services.timers.call_at(at, self.nudge)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
