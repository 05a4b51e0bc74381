"""Counting what is there when somebody looks: gauges for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.fleet.status import SiteStatus, invited_sites, state_of
from coordinator.metrics.catalog import ENDINGS, Catalog
from coordinator.metrics.disk import DiskUse
from coordinator.metrics.fleet_health import measure_fleet
from coordinator.status.asking import LoopInquiry
from coordinator.store.base import Store, Transaction
from coordinator.store.records import JobRecord, SiteRecord, TokenRecord
from coordinator.work.tasks import Task, TaskState
from ravan.clock import Clock
from ravan.ids import SiteId
from ravan.manifest.phases import JobState, SiteState
from ravan.version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiries:
    """When the coordinator's own certificates end, seconds since the Unix epoch."""

    ca: float
    server: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    sites: tuple[tuple[SiteRecord, SiteState], ...]
    invited: tuple[str, ...]
    jobs: Sequence[JobRecord]
    tasks: Counter[TaskState]
    audit_records: int


class Census:
    """Answer the HTTP server's threads with facts from the event loop's objects."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        online: Callable[[], Mapping[SiteId, SiteStatus]],
        clock: Clock,
        *,
        disk: DiskUse,
        expiries: Callable[[], Expiries],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._online = online
        self._clock = clock
        self._disk = disk
        self._expiries = expiries
        self._inquiry = LoopInquiry()

    def refresh_from_thread(self) -> None:
        """Bring the gauges up to date; called outside the event loop. Old values stay when it does not answer."""
        self._inquiry.ask(self.refresh, lambda: None)

    async def refresh(self) -> None:
        """Set every gauge that is counted rather than kept."""
        counts = await self._count()
        by_state = Counter(state for _, state in counts.sites)
        by_state[SiteState.INVITED] = len(counts.invited)
        for state in SiteState:
            self._catalog.sites.labels(state).set(by_state[state])
        jobs = Counter(job.state for job in counts.jobs)
        for job_state in JobState:
            self._catalog.jobs.labels(job_state).set(jobs[job_state])
        for task_state in TaskState:
            self._catalog.tasks.labels(task_state).set(counts.tasks[task_state])
        self._catalog.audit_records.set(counts.audit_records)
        self._catalog.disk_free_bytes.set(self._disk.free_bytes())
        for kind, taken in (await self._disk.measure()).items():
            self._catalog.disk_bytes.labels(kind).set(taken)
        self._catalog.show_fleet(measure_fleet(self._online().values(), self._clock.now(), VERSION))
        self._set_expiries(counts)

    async def _count(self) -> _Counts:
        def work(
            transaction: Transaction,
        ) -> tuple[Sequence[SiteRecord], Sequence[TokenRecord], Sequence[JobRecord], Sequence[Task], int]:
            sites, tokens, seal = transaction.list_sites(), transaction.list_open_tokens(), transaction.get_audit_seal()
            records = 0 if seal is None else seal.sequence
            return sites, tokens, transaction.list_jobs(), transaction.list_tasks(), records

        sites, tokens, jobs, tasks, audit_records = await self._store.transact("census", work)
        online, now = self._online(), self._clock.now()
        return _Counts(
            sites=tuple((site, state_of(site, online.get(site.name))) for site in sites),
            invited=invited_sites(tokens, sites, now),
            jobs=jobs,
            tasks=Counter(task.state for task in tasks),
            audit_records=audit_records,
        )

    def _set_expiries(self, counts: _Counts) -> None:
        now, gauge = self._clock.now(), self._catalog.certificate_expiry
        own = self._expiries()
        gauge.labels("ca").set(own.ca - now)
        gauge.labels("server").set(own.server - now)
        ends = [site.certificate_expires_at for site, state in counts.sites if state is not SiteState.REVOKED]
        if ends:
            gauge.labels("site").set(min(ends) - now)
        spread = Counter(_ending(end - now) for end in ends)
        for ending in ENDINGS:
            self._catalog.site_certificates.labels(ending).set(spread[ending])


def _ending(left_s: float) -> str:
    return next(name for name, within_s in ENDINGS.items() if left_s <= within_s)
