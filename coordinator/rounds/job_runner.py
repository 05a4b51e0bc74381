"""One active job: waits for sites, starts one round after another, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from coordinator.allocation.policy import AllocationPolicy, SiteCapacity
from coordinator.leases.lease import LeaseLost
from coordinator.rounds.active_round import ActiveRound
from coordinator.rounds.assigning import first_clips, following_clips, write_assignment
from coordinator.rounds.journal import read_journal
from coordinator.rounds.opening import set_up_round
from coordinator.rounds.ports import Job, Timer
from coordinator.rounds.recording import RoundNotes
from coordinator.rounds.results import NewVersion
from coordinator.rounds.selection import SETTLE_S, Selection, Waiting, count_committed, following_number, select
from coordinator.rounds.services import Services
from coordinator.rounds.storing import store_interruption, store_job_end
from coordinator.rounds.suspicions import Suspicions
from coordinator.store.base import Transaction
from coordinator.store.records import JobProfileRecord, JobRecord, RoundEntry, RoundRecord, SiteRecord
from ravan.errors import RavanError, ResourceError
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.phases import ENDED_JOBS, DropReason, JobState, RoundOutcome

log = structlog.stdlib.get_logger(__name__)

FAILURES_IN_A_ROW: Final = 5
"""Rounds without a new version, one after another, before the job pauses for an operator to look."""

RETURN_S: Final = 75.0
"""How long sites may take to come back to a coordinator that was down: they look for it every 30 s at most, and the
line under that dials every 30 s at most."""

FIRST_PAUSE_S: Final = 2.0
"""Wait after a round without a new version; doubles with each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftRound:
    """A round that an earlier process was leading."""

    record: RoundRecord
    entries: tuple[RoundEntry, ...]


class JobRunner:
    """Run one job in a task of its own; the only writer of the job's record."""

    def __init__(
        self,
        services: Services,
        job: Job,
        record: JobRecord,
        *,
        on_release: Callable[[], None],
        settle_s: float = SETTLE_S,
    ) -> None:
        """Take over a job in the state of its record; `on_release` hears that a round let go of its sites."""
        self.job = job
        self.record = record
        self.round: ActiveRound | None = None
        self._given_up: ActiveRound | None = None
        """The last round, when it came to nothing: the last words against a site may come after its end."""
        self._suspicions = Suspicions()
        self._services = services
        self._on_release = on_release
        self._settle_s = settle_s
        self._nudged = asyncio.Event()
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._enough_since: float | None = None
        self._failures = 0
        self._resume_at = 0.0
        self._setback = ""
        self._clips: Mapping[BlockId, float] | None = None
        self._norms: Mapping[BlockId, float] = {}
        """Of the heads in the version `_weighed`."""
        self._weighed: Digest | None = None

    def resume_round(self, left: LeftRound) -> None:
        """Take up a round that was running, before `start`; one that cannot be is interrupted at the first turn."""
        try:
            journal = read_journal(left.entries)
            assignment, digest = self._services.signatory.open_assignment(journal.document)
            notes = RoundNotes(
                started_at=left.record.started_at,
                ram_limits={site.site: site.ram_limit_bytes for site in left.record.sites},
            )
            found = ActiveRound(
                self._services,
                self.job,
                set_up_round(self.job, assignment, journal.document, digest),
                notes,
                self._adopt,
            )
            found.replay(journal.events)
        except RavanError as error:
            log.error("a round cannot be taken up again", job=self.record.name, why=str(error))
            return
        self.round = found
        for site in found.present:
            self._services.candidates.expect(site, journal.processes[site], self.job.job_id)

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

    def nudge(self) -> None:
        """Look again whether a round can start."""
        self._nudged.set()

    async def pause(self) -> None:
        """Start no further rounds; one that runs is finished."""
        await self._save(state=JobState.PAUSED, message="Paused by an operator; `job resume` goes on.")

    async def resume(self) -> None:
        """Go on; where that cannot be stored the job stays paused, so that the next attempt counts."""
        self._failures, self._resume_at, self._suspicions = 0, 0.0, Suspicions()
        before = self.record
        try:
            await self._save(state=JobState.RUNNING, message="")
        except ResourceError:
            self.record = replace(self.record, state=before.state, message=before.message)
            raise
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

    async def stop(self) -> None:
        """End the job and wait until it has."""
        self._stopped = True
        if self.round is not None:
            await self.round.stop()
        self.nudge()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            if self.round is not None:
                await self._see_through(self.round, self.record, self._go_on(self.round))
            while self.record.state not in ENDED_JOBS:
                try:
                    await self._take_turn()
                except ResourceError as error:
                    await self._pause_for(error)
        except LeaseLost as error:
            log.warning("job left to another process", job=self.record.name, why=str(error))
        except RavanError as error:
            log.warning("job failed", job=self.record.name, error=str(error))
            await self._fail(f"{error} {error.next_step}".strip())
        except Exception:
            log.exception("job failed", job=self.record.name)
            await self._fail("The coordinator failed; its log has the trace.")

    async def _measure_start(self) -> None:
        if self.record.accuracy_before is not None:
            return
        evaluation = await self._services.workshop.evaluate(self.job, self.record.state_digest)
        self._services.metrics.model_evaluated(self.record.name, evaluation)
        await self._save(accuracy_before=evaluation.accuracy, accuracy=evaluation.accuracy)

    async def _weigh_heads(self) -> None:
        version = self.record.state_digest
        if self.job.file.allocation.policy is AllocationPolicy.WEIGHT and version != self._weighed:
            self._norms = await self._services.workshop.weigh(self.job, version)
            self._weighed = version

    async def _take_turn(self) -> None:
        self._nudged.clear()
        if self._stopped:
            await self._finish(JobState.STOPPED, "Stopped by an operator.")
            return
        if self.record.state is JobState.PAUSED:
            await self._nudged.wait()
            return
        await self._measure_start()
        await self._weigh_heads()
        sites, profiles, rounds = await self._services.store.transact("read_fleet", self._read_fleet)
        if count_committed(rounds) >= self.record.rounds_planned:
            await self._finish(JobState.COMPLETED, "")
            return
        # Nothing may be awaited from here until the sites are engaged: other jobs choose among the same sites.
        selection = self._select(sites, profiles, rounds)
        if isinstance(selection, Selection):
            await self._run_round(selection, sites, rounds)
        else:
            await self._say(selection.sentence)
            await self._nudged.wait()

    def _read_fleet(
        self, transaction: Transaction
    ) -> tuple[dict[SiteId, SiteRecord], dict[SiteId, JobProfileRecord], Sequence[RoundRecord]]:
        rounds = transaction.list_rounds(self.job.job_id)
        for left_open in (record for record in rounds if record.outcome is None):
            store_interruption(transaction, self.job.job_id, self.job.plan.run_id, left_open)
        sites = {site.name: site for site in transaction.list_sites() if site.revoked_at is None}
        profiles = {profile.site: profile for profile in transaction.list_job_profiles(self.job.job_id)}
        return sites, profiles, rounds

    def _select(
        self,
        sites: Mapping[SiteId, SiteRecord],
        profiles: Mapping[SiteId, JobProfileRecord],
        rounds: Sequence[RoundRecord],
    ) -> Selection | Waiting:
        fleet = {
            name: SiteCapacity(hardware=site.hardware, job=profiles[name].profile)
            for name, site in sites.items()
            if site.hardware is not None and name in profiles
        }
        for convicted in self._suspicions.convicted:
            self._services.candidates.bar(convicted, self.job.job_id, DropReason.PROTOCOL)
        lineup = self._services.candidates.line_up(self.job.job_id)
        selection = select(self.job, lineup, fleet, rounds, self._norms)
        now = self._services.clock.now()
        if isinstance(selection, Waiting):
            self._enough_since = None
            return selection
        if now < self._resume_at:
            self._wake_at(self._resume_at)
            return Waiting(sentence=self._setback)
        since = self._enough_since = now if self._enough_since is None else self._enough_since
        if lineup.preparing and now < since + self._settle_s:
            self._wake_at(since + self._settle_s)
            return Waiting(sentence=f"Enough sites are ready; waits a little for {', '.join(lineup.preparing)}.")
        return selection

    async def _run_round(
        self, selection: Selection, sites: Mapping[SiteId, SiteRecord], rounds: Sequence[RoundRecord]
    ) -> None:
        services, job = self._services, self.job
        services.candidates.engage(selection.sites, job.job_id)
        self._cancel_timer()
        self._enough_since = None
        before = self.record
        number = following_number(rounds)
        self.round = self._open_round(selection, sites, number, self._clips or _last_clips(rounds))
        if self.record.state is JobState.PREPARING or self.record.message != selection.remark:
            if selection.remark:
                log.warning("heads that nobody trains", job=self.record.name, round=number, detail=selection.remark)
            await self._save(state=JobState.RUNNING, message=selection.remark)
        await self._see_through(self.round, before, self.round.begin())

    async def _go_on(self, left: ActiveRound) -> None:
        await left.resume(self._services.clock.now() + RETURN_S)

    async def _see_through(self, ended: ActiveRound, before: JobRecord, opening: Coroutine[Any, Any, None]) -> None:
        """Lead a round to its end and draw the conclusions; `before` is the job as it was without it."""
        await opening
        await ended.ended.wait()
        if isinstance(ended.failure, LeaseLost):
            # The round stays, and refuses what is said to it: it goes on at another process.
            raise ended.failure
        self.round = None
        self._given_up = ended if ended.summed is None else None
        if ended.failure is not None:
            # A version whose commit was not stored is nobody's.
            self.record = replace(self.record, state_digest=before.state_digest, accuracy=before.accuracy)
        self._on_release()
        await self._conclude(ended)

    def _open_round(
        self,
        selection: Selection,
        sites: Mapping[SiteId, SiteRecord],
        number: int,
        clips: Mapping[BlockId, float] | None,
    ) -> ActiveRound:
        services, job = self._services, self.job
        assignment = write_assignment(
            job,
            selection,
            number=number,
            state_digest=self.record.state_digest,
            sites=sites,
            clips=clips or first_clips(job),
        )
        document, digest = services.signatory.sign_assignment(assignment)
        setup = set_up_round(job, assignment, document, digest)
        limits = {name: site.hardware.ram_limit_bytes for name, site in sites.items() if site.hardware is not None}
        notes = RoundNotes(started_at=services.clock.now(), ram_limits=limits)
        return ActiveRound(services, job, setup, notes, self._adopt)

    def _adopt(self, version: NewVersion) -> JobRecord:
        accuracy = version.evaluation.accuracy
        self.record = replace(self.record, state_digest=version.state_digest, accuracy=accuracy)
        return self.record

    async def _conclude(self, ended: ActiveRound) -> None:
        if ended.failure is not None:
            raise ended.failure
        number = ended.number
        await asyncio.to_thread(self._services.uploads.discard_round, self.job.plan.run_id, number + 1)
        if ended.machine.outcome is RoundOutcome.COMMITTED and ended.summed is not None:
            self._failures = 0
            self._clips = following_clips(ended.record.clips, ended.summed.total)
        elif not self._stopped and self.record.state is not JobState.PAUSED:
            await self._hold_back(number, ended.detail)

    async def _hold_back(self, number: int, detail: str) -> None:
        self._failures += 1
        self._resume_at = self._services.clock.now() + FIRST_PAUSE_S * 2 ** (self._failures - 1)
        self._setback = f"Round {number} made no new version. {detail}".strip()
        if self._failures < FAILURES_IN_A_ROW:
            await self._say(self._setback)
        else:
            advice = f"{self._failures} rounds in a row failed; look at the sites, then `job resume`."
            await self._save(state=JobState.PAUSED, message=f"{self._setback} {advice}")

    async def _pause_for(self, error: ResourceError) -> None:
        """Wait for an operator to make room; that the job waits is stored when there is room for that."""
        log.error("job paused", job=self.record.name, error=str(error))
        sentence = f"{error} {error.next_step} Then `job resume`."
        try:
            await self._save(state=JobState.PAUSED, message=sentence)
        except ResourceError:
            self._services.changes.note(self.job.job_id)

    async def _fail(self, sentence: str) -> None:
        try:
            await self._finish(JobState.FAILED, sentence)
        except Exception:
            log.exception("the end of a job could not be stored", job=self.record.name)

    async def _finish(self, state: JobState, message: str) -> None:
        services, job = self._services, self.job
        self.record = replace(self.record, state=state, message=message)
        record = self.record

        def work(transaction: Transaction) -> set[SiteId]:
            rounds = transaction.list_rounds(job.job_id)
            enrolled = {site.name for site in transaction.list_sites() if site.revoked_at is None}
            told = enrolled & {p.site for p in transaction.list_job_profiles(job.job_id)} | set(
                services.candidates.online()
            )
            store_job_end(transaction, record, job.plan.run_id, rounds[-1] if rounds else None, sorted(told))
            return told

        told = await services.store.transact("end_job", work)
        await asyncio.to_thread(services.uploads.discard_run, job.plan.run_id)
        services.candidates.forget_job(job.job_id)
        services.metrics.job_ended(record.name)
        services.changes.note(job.job_id)
        log.info("job ended", job=record.name, state=state.value, message=message)
        for site in told:
            services.mailbox.wake(site)

    async def _say(self, sentence: str) -> None:
        if sentence != self.record.message:
            await self._save(message=sentence)

    async def _save(self, **changes: object) -> None:
        self.record = record = replace(self.record, **changes)  # type: ignore[arg-type] # fields of the record
        await self._services.store.transact("put_job", lambda transaction: transaction.put_job(record))
        self._services.changes.note(self.job.job_id)

    def _wake_at(self, at: float) -> None:
        self._cancel_timer()
        self._timer = self._services.timers.call_at(at, self.nudge)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _last_clips(rounds: Sequence[RoundRecord]) -> Mapping[BlockId, float] | None:
    # After a restart the summed flags are gone; the clips themselves are on record.
    return rounds[-1].clips if rounds and rounds[-1].clips else None
