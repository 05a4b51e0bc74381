"""Which jobs may run where only so many do at once, and what the others wait for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.store.records import JobRecord
from ravan.ids import JobId
from ravan.manifest.phases import ENDED_JOBS, JobState


def find_admitted(jobs: Sequence[JobRecord], at_once: int) -> tuple[JobRecord, ...]:
    """Return the jobs that may run: the first `at_once` of those that are neither paused nor over; 0 means all.

    `jobs` are in the order of their submission.
    """
    wanting = [job for job in jobs if job.state not in ENDED_JOBS and job.state is not JobState.PAUSED]
    return tuple(wanting[: at_once or None])


def explain_queue(jobs: Sequence[JobRecord], job_id: JobId, at_once: int) -> str:
    """Return what a job waits for before it may run; empty where it may, or is paused or over."""
    admitted = find_admitted(jobs, at_once)
    queued = {job.job_id for job in find_admitted(jobs, 0)} - {job.job_id for job in admitted}
    if job_id not in queued:
        return ""
    names = ", ".join(job.job_id for job in admitted)
    return f"Queued: {at_once} run at once here ([scheduling] jobs_at_once), and {names} came first."
