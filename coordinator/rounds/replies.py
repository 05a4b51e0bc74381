"""What operators get to hear of jobs, from whoever leads them or from the records. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.store.records import JobRecord, RoundRecord
from ravan.errors import ErrorReason, StateError
from ravan.ids import JobId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Answer to a submitted job."""

    job_id: JobId
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """One job as operators see it; the record's message says what it waits for."""

    record: JobRecord
    rounds: tuple[RoundRecord, ...]
    ready_sites: tuple[SiteId, ...]
    awaited: tuple[SiteId, ...]
    """Whose answer the running round waits for."""


def no_job(id_or_name: str) -> StateError:
    """Return the error for a job that there is not."""
    return StateError(
        f"There is no job {id_or_name!r}.",
        reason=ErrorReason.NOT_FOUND,
        next_step="List the jobs with `ravan-coordinator job list`.",
    )
