"""The rounds' front desk: what the fleet, the sites and the operators ask of jobs and rounds.

It finds the job or round that is meant and hands over; it decides nothing about rounds itself. After
a restart a round that was running goes on where it was, as soon as its sites are back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from coordinator.audit.entries import COORDINATOR, job_submitted
from coordinator.jobs.jobfile import read_job_file
from coordinator.rounds.admission import explain_queue
from coordinator.rounds.job_runner import JobRunner
from coordinator.rounds.ports import Job
from coordinator.rounds.recovery import SUBMITTED, list_left_jobs, open_job
from coordinator.rounds.replies import Accepted, JobDetail, no_job
from coordinator.rounds.resting import describe_resting
from coordinator.rounds.selection import SETTLE_S
from coordinator.rounds.services import Services
from coordinator.rounds.storing import store_preparation
from coordinator.store.base import Transaction
from coordinator.store.records import JobProfileRecord, JobRecord
from ravan.codec.secagg_messages import Submission
from ravan.errors import ErrorReason, StateError
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.instructions import RoundRef
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import ENDED_JOBS, DropReason, JobState
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.secagg.messages import MaskedHeader

if TYPE_CHECKING:
    from coordinator.rounds.active_round import ActiveRound

log = structlog.stdlib.get_logger(__name__)

_Read = TypeVar("_Read")


class Conductor:
    """Run all jobs; made once a process, on the event loop that calls it."""

    def __init__(self, services: Services, *, settle_s: float = SETTLE_S, jobs_at_once: int = 0) -> None:
        """Make one that runs `jobs_at_once` jobs side by side and has the others wait; 0 means all."""
        self._services = services
        self._jobs_at_once = jobs_at_once
        self._asked: set[JobId] = set()
        """Jobs that are not queued, and that the connected sites were asked to prepare."""
        self._settle_s = settle_s
        self._runners: dict[JobId, JobRunner] = {}
        self._submitting = asyncio.Lock()

    async def start(self) -> Mapping[SiteId, bytes]:
        """Take up the jobs that have not ended and their rounds; return the processes that are awaited in these."""
        for record, left in await self._services.store.transact("recover_jobs", list_left_jobs):
            runner = self._add_runner(open_job(self._services.signatory, record), record)
            if left is not None:
                runner.resume_round(left)
            runner.start()
        return self._services.candidates.processes(self._services.candidates.online())

    async def stop(self) -> None:
        """Stop where everything is; nothing is lost, and the next start goes on."""
        await asyncio.gather(*(runner.close() for runner in self._runners.values()))
        await self._services.errands.stop()

    # Operators

    async def submit_job(
        self, job_toml: str, evaluation_digest: Digest, request_id: str, by: str = COORDINATOR
    ) -> Accepted:
        """Check a job and start it; after a crash before its answer was kept, the same request id finds the job."""
        async with self._submitting:
            known = await self._read("find_job", lambda transaction: transaction.find_job_by_request(request_id))
            if known is not None:
                return Accepted(job_id=known.job_id, notes=())
            return await self._plan_job(job_toml, evaluation_digest, request_id, by)

    async def pause_job(self, id_or_name: str, by: str = COORDINATOR) -> None:
        """Start no further rounds; one that runs is finished."""
        runner = await self._find_running(id_or_name)
        if runner.record.state is not JobState.PAUSED:
            await runner.pause(by)
            self._nudge()

    async def resume_job(self, id_or_name: str, by: str = COORDINATOR) -> None:
        """Go on with a paused job; sites that could not take part are asked again."""
        runner = await self._find_running(id_or_name)
        if runner.record.state is JobState.PAUSED:
            for site, _ in self._services.candidates.line_up(runner.job.job_id).barred:
                await self._prepare(runner, site)
            await runner.resume(by)
            self._nudge()

    async def stop_job(self, id_or_name: str, by: str = COORDINATOR) -> None:
        """End a job; committed versions stay. A job that has ended already stays as it is."""
        record = await self._find(id_or_name)
        runner = self._runners.get(record.job_id)
        if runner is not None:
            await runner.stop(by)

    async def jobs(self) -> Sequence[JobRecord]:
        """Return all jobs, newest first."""
        records = await self._read("list_jobs", lambda transaction: transaction.list_jobs())
        return [self._newest(record) for record in records]

    async def job_detail(self, id_or_name: str) -> JobDetail:
        """Return one job with its rounds; raise StateError (NOT_FOUND)."""
        record = await self._find(id_or_name)
        rounds = await self._read("list_rounds", lambda transaction: transaction.list_rounds(record.job_id))
        ready = self._services.candidates.line_up(record.job_id).measured
        runner = self._runners.get(record.job_id)
        awaited = () if runner is None or runner.round is None else runner.round.machine.awaited
        return JobDetail(record=self._newest(record), rounds=tuple(rounds), ready_sites=ready, awaited=awaited)

    def resting(self) -> Mapping[SiteId, str]:
        """Return for each site that rests from which jobs' rounds, and until when."""
        return describe_resting((runner.record.name, runner.rests) for runner in self._active())

    async def changed(self, job_id: JobId, version: int) -> int:
        """Wait until the job's version is beyond this one, and return it; versions start at 1."""
        return await self._services.changes.beyond(job_id, version)

    # The fleet

    async def site_attached(self, site: SiteId, process_id: bytes) -> None:
        """Ask a site to prepare every active job that this process has not prepared."""
        candidates = self._services.candidates
        before = candidates.attach(site, process_id)
        if before is not None and before != process_id:
            await self._lose(site, DropReason.RESTARTED)
        for runner in self._not_queued():
            if candidates.needs_preparation(site, runner.job.job_id):
                await self._prepare(runner, site)
        self._nudge()

    async def site_lost(self, site: SiteId) -> None:
        """Go on without a site."""
        self._services.candidates.lose(site)
        await self._lose(site, DropReason.DISCONNECTED)
        self._nudge()

    async def hardware_reported(self, site: SiteId, profile: HardwareProfile) -> None:  # noqa: ARG002 - it is stored
        """Look again: the next allocation is made from the stored report."""
        for runner in self._active():
            lineup = self._services.candidates.line_up(runner.job.job_id)
            if site in dict(lineup.barred):
                await self._prepare(runner, site)
        self._nudge()

    async def heartbeat(self, site: SiteId, heartbeat: Heartbeat) -> None:
        """Keep what a round costs the site."""
        active = self._round_of(site)
        if active is not None:
            active.note_cost(site, heartbeat)

    # The sites

    async def job_profiled(self, site: SiteId, job_id: JobId, profile: JobProfile) -> None:
        """Take a site's measurement of a job; it is ready from now on."""
        runner = self._runners.get(job_id)
        if runner is None or profile.plan_digest != runner.job.plan_digest:
            raise _behind(f"Job {job_id} does not run with the plan that {site} measured.")
        record = JobProfileRecord(job_id=job_id, site=site, profile=profile)
        await self._services.store.transact("put_job_profile", lambda transaction: transaction.put_job_profile(record))
        self._services.candidates.make_ready(site, job_id)
        self._services.changes.note(job_id)
        self._nudge()

    async def left(self, site: SiteId, job_id: JobId, round_number: int, reason: DropReason) -> None:
        """Go on without a site that cannot finish a round, or (round 0) cannot prepare the job."""
        runner = self._runners.get(job_id)
        if runner is None:
            return
        if round_number == 0:
            log.warning("site cannot prepare a job", site=site, job=runner.record.name, reason=reason.value)
            self._services.candidates.bar(site, job_id, reason)
            self._services.changes.note(job_id)
            self._nudge()
        else:
            found = runner.find_round(round_number)
            if found is not None:
                await found.lose(site, reason)

    async def accused(self, site: SiteId, job_id: JobId, round_number: int, suspect: int) -> None:
        """Take a site's word that it could not use the sealed shares of a member."""
        runner = self._runners.get(job_id)
        if runner is not None:
            await runner.accuse(site, round_number, suspect)

    async def refused(self, site: SiteId, reason: DropReason) -> None:
        """Go on without a site that could not even read its last instruction: no round, no preparation."""
        next_step = "Its log says why. Run the same release on both sides; a restored coordinator needs its old pki."
        log.warning("site refuses an instruction", site=site, reason=reason.value, next_step=next_step)
        for runner in self._active():
            if site in self._services.candidates.line_up(runner.job.job_id).preparing:
                self._services.candidates.bar(site, runner.job.job_id, reason)
                self._services.changes.note(runner.job.job_id)
        await self._lose(site, reason)
        self._nudge()

    async def submit_message(self, site: SiteId, submission: Submission) -> None:
        """Take a message of secure aggregation; raise IdentityError for another site's member index."""
        await self._find_round(submission.round).take_message(site, submission)

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        """Check a masked vector's header before it is staged; raise RavanError to refuse it."""
        await self._find_round(round_ref).announce_upload(site, round_ref, header)

    async def arrived(
        self,
        site: SiteId,
        round_ref: RoundRef,
        header: MaskedHeader,
        path: Path,  # noqa: ARG002 - found again by what the vector is
    ) -> None:
        """Take a masked vector that is staged whole."""
        await self._find_round(round_ref).take_upload(site, round_ref, header)

    # Transfers

    def plans(self) -> tuple[JobPlan, ...]:
        """Return the plans of the jobs that run, whose bases a site may ask for."""
        return tuple(runner.job.plan for runner in self._active())

    async def may_download(self, digest: Digest) -> bool:
        """Tell whether a site may fetch this blob: of a job that runs, or the newest version of one that has ended."""
        if any(digest in runner.served() for runner in self._active()):
            return True
        # Sites keep what was learnt, also those that were switched off when the job ended.
        return any(digest == job.state_digest for job in await self.jobs())

    # Steps

    async def _plan_job(self, job_toml: str, evaluation_digest: Digest, request_id: str, by: str) -> Accepted:
        from coordinator.jobs.submission import choose_model  # noqa: PLC0415 - only a new job needs its arithmetic

        file = read_job_file(job_toml, source=SUBMITTED)
        models, sites = await self._read(
            "read_submission", lambda transaction: (transaction.list_models(), transaction.list_sites())
        )
        model = choose_model(file, models)
        fleet = sum(site.revoked_at is None for site in sites)
        services = self._services
        planned = await services.workshop.plan(file, model=model, evaluation_digest=evaluation_digest, fleet_size=fleet)
        document, _ = services.signatory.sign_plan(planned.plan)
        record = JobRecord(
            job_id=planned.plan.job_id,
            name=planned.plan.job_name,
            state=JobState.PREPARING,
            message="",
            submitted_at=services.clock.now(),
            request_id=request_id,
            job_toml=job_toml,
            plan=document,
            model=model.name,
            evaluation_digest=evaluation_digest,
            rounds_planned=file.job.rounds,
            state_digest=planned.state_digest,
        )
        await self._launch(record, by)
        return Accepted(job_id=record.job_id, notes=planned.notes)

    async def _launch(self, record: JobRecord, by: str) -> None:
        services = self._services
        job = open_job(services.signatory, record)
        queued = explain_queue([*self._records(), record], record.job_id, self._jobs_at_once)
        sites = () if queued else services.candidates.online()

        submitted = job_submitted(record, job.plan_digest, job.file.secure_aggregation.bundle_threshold, by)

        def work(transaction: Transaction) -> None:
            services.audit.append(transaction, submitted)
            transaction.put_job(record)
            store_preparation(transaction, record, job.plan.run_id, sites)

        await services.store.transact("start_job", work)
        for site in sites:
            services.candidates.prepare(site, record.job_id)
            services.mailbox.wake(site)
        log.info("job submitted", job=record.name, job_id=record.job_id, rounds=record.rounds_planned)
        self._add_runner(job, record).start()
        self._nudge()

    def _add_runner(self, job: Job, record: JobRecord) -> JobRunner:
        runner = JobRunner(
            self._services,
            job,
            record,
            on_release=self._nudge,
            why_queued=lambda: explain_queue(self._records(), job.job_id, self._jobs_at_once),
            settle_s=self._settle_s,
        )
        self._runners[job.job_id] = runner
        self._services.changes.note(job.job_id)
        return runner

    async def _prepare(self, runner: JobRunner, site: SiteId) -> None:
        record, run_id = runner.record, runner.job.plan.run_id
        await self._services.store.transact(
            "prepare_site", lambda transaction: store_preparation(transaction, record, run_id, [site])
        )
        # What could not be stored is asked for again when the site comes back.
        self._services.candidates.prepare(site, record.job_id)
        self._services.mailbox.wake(site)

    async def _lose(self, site: SiteId, reason: DropReason) -> None:
        active = self._round_of(site)
        if active is not None:
            await active.lose(site, reason)

    def _round_of(self, site: SiteId) -> ActiveRound | None:
        rounds = (runner.round for runner in self._runners.values())
        return next((active for active in rounds if active is not None and active.machine.takes_part(site)), None)

    def _find_round(self, reference: RoundRef) -> ActiveRound:
        for runner in self._runners.values():
            if runner.job.plan.run_id == reference.run_id:
                found = runner.find_round(reference.round_number)
                if found is not None:
                    return found
        raise _behind(f"Round {reference.round_number} of this run is not in progress.")

    def _active(self) -> list[JobRunner]:
        return [runner for runner in list(self._runners.values()) if runner.record.state not in ENDED_JOBS]

    def _not_queued(self) -> list[JobRunner]:
        records = self._records()
        return [r for r in self._active() if not explain_queue(records, r.job.job_id, self._jobs_at_once)]

    def _records(self) -> list[JobRecord]:
        return [runner.record for runner in self._runners.values()]

    def _nudge(self) -> None:
        active, ready = self._active(), self._not_queued()
        for runner in active:
            runner.nudge()
        self._services.metrics.jobs_queued(len(active) - len(ready))
        ids = {runner.job.job_id for runner in ready}
        new = [runner for runner in ready if runner.job.job_id not in self._asked]
        self._asked = ids
        if new:
            self._services.errands.start(self._ask_for(new), "have sites prepare jobs")

    async def _ask_for(self, runners: Sequence[JobRunner]) -> None:
        """Have the connected sites prepare jobs that were queued until now."""
        for runner in runners:
            for site in self._services.candidates.online():
                if self._services.candidates.needs_preparation(site, runner.job.job_id):
                    await self._prepare(runner, site)

    async def _find(self, id_or_name: str) -> JobRecord:
        record = await self._read("find_job", lambda transaction: transaction.find_job(id_or_name))
        if record is None:
            raise no_job(id_or_name)
        return record

    def _newest(self, record: JobRecord) -> JobRecord:
        """Show a pause that a full disk kept from being stored."""
        runner = self._runners.get(record.job_id)
        if runner is None or runner.record.state is not JobState.PAUSED:
            return record
        return replace(record, state=runner.record.state, message=runner.record.message)

    async def _find_running(self, id_or_name: str) -> JobRunner:
        record = await self._find(id_or_name)
        runner = self._runners.get(record.job_id)
        if runner is None or runner.record.state in ENDED_JOBS:
            raise StateError(
                f"Job {record.name} has ended ({record.state}).",
                reason=ErrorReason.WRONG_STATE,
                next_step="Submit the job file again to start a new job.",
            )
        return runner

    async def _read(self, name: str, work: Callable[[Transaction], _Read]) -> _Read:
        return await self._services.store.transact(name, work)


def _behind(sentence: str) -> StateError:
    return StateError(
        sentence, reason=ErrorReason.WRONG_STATE, next_step="Drop the message and wait for the next instruction."
    )
