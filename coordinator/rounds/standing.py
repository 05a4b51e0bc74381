"""Where a job stands: the only place that changes its record and stores it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from coordinator.audit.entries import COORDINATOR
from coordinator.rounds.gate import find_refusal
from coordinator.rounds.ports import Job
from coordinator.rounds.results import Evaluation, NewVersion, finite_or_none
from coordinator.rounds.services import Services
from coordinator.rounds.storing import store_job, store_job_end
from coordinator.store.base import Transaction
from coordinator.store.records import JobRecord
from ravan.errors import ResourceError
from ravan.ids import SiteId
from ravan.manifest.phases import JobState

log = structlog.stdlib.get_logger(__name__)


class Standing:
    """Keep one job's record."""

    def __init__(self, services: Services, job: Job, record: JobRecord) -> None:
        self.record = record
        self._services = services
        self._job = job

    # Versions

    async def measure_start(self) -> None:
        """Measure the version that the first round starts from, unless that is on record."""
        if self.record.accuracy_before is not None:
            return
        found = await self._services.workshop.evaluate(self._job, self.record.state_digest)
        self._services.metrics.model_evaluated(self.record.name, found)
        loss = finite_or_none(found.loss)
        await self.save(accuracy_before=found.accuracy, accuracy=found.accuracy, loss_before=loss, loss=loss)

    def judge(self, found: Evaluation) -> str:
        """Return why a version with these figures is refused; empty where it may become the newest."""
        table = self._job.file.evaluation
        return find_refusal(table, table.measure.read(self.record), found)

    def adopt(self, version: NewVersion) -> JobRecord:
        """Make a version the newest and return the record, for whoever stores it."""
        found = version.evaluation
        self.record = replace(
            self.record, state_digest=version.state_digest, accuracy=found.accuracy, loss=finite_or_none(found.loss)
        )
        return self.record

    def disown(self, before: JobRecord) -> None:
        """Go back to an earlier record's version: a newer one whose commit was not stored is nobody's."""
        self.record = replace(self.record, state_digest=before.state_digest, accuracy=before.accuracy, loss=before.loss)

    # States

    async def say(self, sentence: str) -> None:
        """Tell operators how things are, where that has changed."""
        if sentence != self.record.message:
            await self.save(message=sentence)

    async def save(self, *, by: str = COORDINATOR, **changes: object) -> None:
        """Change and store the record; `by` is who wanted it."""
        self.record = record = replace(self.record, **changes)  # type: ignore[arg-type] # fields of the record
        audit = self._services.audit
        await self._services.store.transact("put_job", lambda transaction: store_job(transaction, audit, record, by))
        self._services.changes.note(self._job.job_id)

    async def resume(self, by: str) -> None:
        """Go on; where that cannot be stored the job stays paused, so that the next attempt counts."""
        before = self.record
        try:
            await self.save(by=by, state=JobState.RUNNING, message="")
        except ResourceError:
            self.record = replace(self.record, state=before.state, message=before.message)
            raise

    async def pause_for(self, error: ResourceError) -> None:
        """Wait for an operator to make room; that the job waits is stored when there is room for that."""
        log.error("job paused", job=self.record.name, error=str(error))
        sentence = f"{error} {error.next_step} Then `job resume`."
        try:
            await self.save(state=JobState.PAUSED, message=sentence)
        except ResourceError:
            self._services.changes.note(self._job.job_id)

    async def fail(self, sentence: str) -> None:
        """End the job as failed, as far as that can be stored."""
        try:
            await self.end(JobState.FAILED, sentence)
        except Exception:
            log.exception("the end of a job could not be stored", job=self.record.name)

    async def end(self, state: JobState, message: str, by: str = COORDINATOR) -> None:
        """End the job, tell its sites, and let go of all that it took."""
        services, job = self._services, self._job
        self.record = record = replace(self.record, state=state, message=message)

        def work(transaction: Transaction) -> set[SiteId]:
            rounds = transaction.list_rounds(job.job_id)
            enrolled = {site.name for site in transaction.list_sites() if site.revoked_at is None}
            told = enrolled & {p.site for p in transaction.list_job_profiles(job.job_id)} | set(
                services.candidates.online()
            )
            store_job_end(transaction, services.audit, record, job.plan.run_id, rounds, sorted(told), by)
            return told

        told = await services.store.transact("end_job", work)
        await asyncio.to_thread(services.uploads.discard_run, job.plan.run_id)
        services.candidates.forget_job(job.job_id)
        services.metrics.job_ended(record.name)
        services.metrics.sites_resting(job.job_id, 0)
        services.changes.note(job.job_id)
        log.info("job ended", job=record.name, state=state.value, message=message)
        for site in told:
            services.mailbox.wake(site)
