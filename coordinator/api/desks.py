"""What the servicers need of whoever runs rounds and jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from coordinator.store.records import JobRecord, RoundRecord
from ravan.codec.secagg_messages import Submission
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.phases import DropReason
from ravan.manifest.profile import JobProfile


class RoundDesk(Protocol):
    """Whoever runs the rounds, as far as sites speak to it."""

    async def job_profiled(self, site: SiteId, job_id: JobId, profile: JobProfile) -> None:
        """Take a site's measurement of a job."""
        ...

    async def submit_message(self, site: SiteId, submission: Submission) -> None:
        """Take a message of secure aggregation; raise PERMISSION_DENIED when its member is another site."""
        ...

    async def left(self, site: SiteId, job_id: JobId, round_number: int, reason: DropReason) -> None:
        """Note that the site will not finish the round; round 0 means that it cannot prepare the job."""
        ...

    async def accused(self, site: SiteId, job_id: JobId, round_number: int, suspect: int) -> None:
        """Note that the site could not use the sealed shares of a member."""
        ...

    async def refused(self, site: SiteId, reason: DropReason) -> None:
        """Note that the site refuses an instruction that it could not even read."""
        ...


class JobDetail(Protocol):
    """A job as the rounds' conductor knows it."""

    @property
    def record(self) -> JobRecord:
        """The job."""
        ...

    @property
    def rounds(self) -> Sequence[RoundRecord]:
        """Its rounds, by number."""
        ...

    @property
    def ready_sites(self) -> Sequence[SiteId]:
        """Connected sites that have measured it."""
        ...

    @property
    def awaited(self) -> Sequence[SiteId]:
        """Sites whose answer the running round waits for."""
        ...


class Accepted(Protocol):
    """What a submission gets."""

    @property
    def job_id(self) -> JobId:
        """The new job."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the operator."""
        ...


class JobDesk(Protocol):
    """Whoever runs the jobs, as far as operators speak to it."""

    async def submit_job(self, job_toml: str, evaluation_digest: Digest, request_id: str, by: str) -> Accepted:
        """Check a job and start it; the same request id gets the first answer. `by` is the audit log's actor."""
        ...

    async def pause_job(self, id_or_name: str, by: str) -> None:
        """Start no further rounds."""
        ...

    async def resume_job(self, id_or_name: str, by: str) -> None:
        """Go on with a paused job."""
        ...

    async def stop_job(self, id_or_name: str, by: str) -> None:
        """End a job."""
        ...

    async def jobs(self) -> Sequence[JobRecord]:
        """Return all jobs, newest first."""
        ...

    async def job_detail(self, id_or_name: str) -> JobDetail:
        """Return one job; raise StateError (NOT_FOUND)."""
        ...

    def resting(self) -> Mapping[SiteId, str]:
        """Return for each site that rests from which jobs' rounds, and until when."""
        ...

    async def changed(self, job_id: JobId, version: int) -> int:
        """Wait until the job's version is beyond this one, and return it."""
        ...
