"""Jobs as the records tell of them, for a process that does not lead: reading works, the rest waits for who does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from coordinator.leases.lease import LeaseLost
from coordinator.rounds.replies import Accepted, JobDetail, no_job
from coordinator.store.base import Store, Transaction
from coordinator.store.records import JobRecord
from ravan.codec.plans import decode_plan
from ravan.errors import ErrorReason
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.phases import ENDED_JOBS
from ravan.manifest.plan import JobPlan


class RecordedJobs:
    """See `coordinator.api.desks.JobDesk`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def jobs(self) -> Sequence[JobRecord]:
        """Return all jobs, newest first."""
        return await self._store.transact("list_jobs", lambda transaction: transaction.list_jobs())

    async def job_detail(self, id_or_name: str) -> JobDetail:
        """Return one job with its rounds; raise StateError (NOT_FOUND). Nobody is ready: nobody is asked."""

        def work(transaction: Transaction) -> JobDetail:
            record = transaction.find_job(id_or_name)
            if record is None:
                raise no_job(id_or_name)
            rounds = tuple(transaction.list_rounds(record.job_id))
            return JobDetail(record=record, rounds=rounds, ready_sites=(), awaited=())

        return await self._store.transact("read_job", work)

    def resting(self) -> Mapping[SiteId, str]:
        """Return nothing: which sites rest is known to who leads."""
        return {}

    async def plans(self) -> tuple[JobPlan, ...]:
        """Return the plans of the jobs that have not ended."""
        return tuple(decode_plan(job.plan.payload) for job in await self.jobs() if job.state not in ENDED_JOBS)

    async def may_download(self, digest: Digest) -> bool:
        """Tell whether a site may fetch this blob: a file or basis of a job that runs, or any job's newest version."""
        jobs = await self.jobs()
        if any(digest == job.state_digest for job in jobs):
            return True
        for job in jobs:
            if job.state not in ENDED_JOBS:
                plan = decode_plan(job.plan.payload)
                if digest in plan.files() | {each.basis_digest for each in plan.matrices}:
                    return True
        return False

    async def submit_job(
        self,
        job_toml: str,  # noqa: ARG002 - the desk's signature
        evaluation_digest: Digest,  # noqa: ARG002
        request_id: str,  # noqa: ARG002
        by: str = "",  # noqa: ARG002
    ) -> Accepted:
        """Refuse."""
        raise _nobody()

    async def pause_job(self, id_or_name: str, by: str = "") -> None:  # noqa: ARG002 - the desk's signature
        """Refuse."""
        raise _nobody()

    async def resume_job(self, id_or_name: str, by: str = "") -> None:  # noqa: ARG002 - the desk's signature
        """Refuse."""
        raise _nobody()

    async def stop_job(self, id_or_name: str, by: str = "") -> None:  # noqa: ARG002 - the desk's signature
        """Refuse."""
        raise _nobody()

    async def changed(self, job_id: JobId, version: int) -> int:  # noqa: ARG002 - the desk's signature
        """Return never; whoever waits looks again after a while."""
        await asyncio.Event().wait()
        return version


def _nobody() -> LeaseLost:
    return LeaseLost(
        "No process leads the rounds now.",
        reason=ErrorReason.UNREACHABLE,
        next_step="Try again in some seconds; if it stays so, look at the coordinators' logs and at the database.",
    )
