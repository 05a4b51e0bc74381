"""What a job's next round is planned from: enrolled sites, what the job costs at each, and the rounds so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.allocation.policy import SiteCapacity
from coordinator.audit.log import AuditLog
from coordinator.rounds.ports import Job
from coordinator.rounds.storing import store_interruption
from coordinator.store.base import Transaction
from coordinator.store.records import JobProfileRecord, RoundRecord, SiteRecord
from ravan.ids import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """One look at the records."""

    sites: Mapping[SiteId, SiteRecord]
    """Enrolled and not revoked."""
    profiles: Mapping[SiteId, JobProfileRecord]
    rounds: Sequence[RoundRecord]

    def capacities(self) -> dict[SiteId, SiteCapacity]:
        """Return what each site can hold of the job, of those that have reported it."""
        return {
            name: SiteCapacity(hardware=site.hardware, job=self.profiles[name].profile)
            for name, site in self.sites.items()
            if site.hardware is not None and name in self.profiles
        }


def gather(transaction: Transaction, audit: AuditLog, job: Job) -> Gathering:
    """Look; a round that stands open while nobody leads it is ended first."""
    rounds = transaction.list_rounds(job.job_id)
    for left_open in (record for record in rounds if record.outcome is None):
        store_interruption(transaction, audit, job.job_id, job.plan.run_id, left_open)
    return Gathering(
        sites={site.name: site for site in transaction.list_sites() if site.revoked_at is None},
        profiles={profile.site: profile for profile in transaction.list_job_profiles(job.job_id)},
        rounds=rounds,
    )
