"""Which sites are there, and how far each is with each job. Pure: told what happens, asked who is ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ravan.ids import JobId, SiteId
from ravan.manifest.phases import DropReason


@dataclass(slots=True)
class _Candidate:
    process_id: bytes
    preparing: set[JobId] = field(default_factory=set)
    ready: set[JobId] = field(default_factory=set)
    barred: dict[JobId, DropReason] = field(default_factory=dict)
    busy: JobId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """Where the connected sites stand with one job; each tuple is sorted."""

    ready: tuple[SiteId, ...]
    preparing: tuple[SiteId, ...]
    busy: tuple[tuple[SiteId, JobId], ...]
    """Ready, but in a round of another job."""
    barred: tuple[tuple[SiteId, DropReason], ...]
    """Said that they cannot take part."""
    kept: tuple[tuple[SiteId, JobId], ...] = ()
    """Ready, but left to another job whose turn is before."""

    @property
    def measured(self) -> tuple[SiteId, ...]:
        """Return all that are ready, also those that others have or are about to have."""
        return tuple(sorted([*self.ready, *(site for site, _ in (*self.busy, *self.kept))]))


class Candidates:
    """Keep the connected sites; one process a site, one round a site."""

    def __init__(self) -> None:
        self._sites: dict[SiteId, _Candidate] = {}

    def attach(self, site: SiteId, process_id: bytes) -> bytes | None:
        """Note a site's process and return the one that was there before; a new process knows no job."""
        known = self._sites.get(site)
        if known is None or known.process_id != process_id:
            self._sites[site] = _Candidate(process_id)
        return None if known is None else known.process_id

    def expect(self, site: SiteId, process_id: bytes, job_id: JobId) -> None:
        """Note that a process is in a job's round, though it is not connected yet."""
        self._sites[site] = _Candidate(process_id, ready={job_id}, busy=job_id)

    def processes(self, sites: Iterable[SiteId]) -> dict[SiteId, bytes]:
        """Return the process of each of these connected sites."""
        return {site: self._sites[site].process_id for site in sites}

    def lose(self, site: SiteId) -> None:
        """Forget a site."""
        self._sites.pop(site, None)

    def online(self) -> tuple[SiteId, ...]:
        """Return the connected sites."""
        return tuple(sorted(self._sites))

    def needs_preparation(self, site: SiteId, job_id: JobId) -> bool:
        """Tell whether this process was not asked to prepare the job, or could not."""
        known = self._sites.get(site)
        return known is not None and job_id not in known.preparing | known.ready

    def prepare(self, site: SiteId, job_id: JobId) -> None:
        """Note that the site was asked to prepare a job."""
        known = self._sites.get(site)
        if known is not None:
            known.barred.pop(job_id, None)
            known.ready.discard(job_id)
            known.preparing.add(job_id)

    def make_ready(self, site: SiteId, job_id: JobId) -> None:
        """Note that the site measured the job."""
        known = self._sites.get(site)
        if known is not None:
            known.preparing.discard(job_id)
            known.barred.pop(job_id, None)
            known.ready.add(job_id)

    def bar(self, site: SiteId, job_id: JobId, reason: DropReason) -> None:
        """Note that the site cannot take part in a job."""
        known = self._sites.get(site)
        if known is not None:
            known.preparing.discard(job_id)
            known.ready.discard(job_id)
            known.barred[job_id] = reason

    def engage(self, sites: Iterable[SiteId], job_id: JobId) -> None:
        """Note that sites are in a round of a job."""
        for site in sites:
            self._sites[site].busy = job_id

    def rejoin(self, processes: Mapping[SiteId, bytes], job_id: JobId) -> dict[SiteId, DropReason]:
        """Engage the processes that still stand ready for a job; return why the others cannot go on with its round."""
        gone = {}
        for site, process in processes.items():
            known = self._sites.get(site)
            if known is not None and known.process_id != process:
                gone[site] = DropReason.RESTARTED
            elif known is None or job_id not in known.ready or known.busy is not None:
                gone[site] = DropReason.DISCONNECTED
            else:
                known.busy = job_id
        return gone

    def release(self, site: SiteId, job_id: JobId) -> None:
        """Note that a site is out of a job's round."""
        known = self._sites.get(site)
        if known is not None and known.busy == job_id:
            known.busy = None

    def forget_job(self, job_id: JobId) -> None:
        """Forget all that concerns a job."""
        for known in self._sites.values():
            known.preparing.discard(job_id)
            known.ready.discard(job_id)
            known.barred.pop(job_id, None)
            known.busy = None if known.busy == job_id else known.busy

    def line_up(self, job_id: JobId) -> Lineup:
        """Return where the connected sites stand with a job."""
        sites = sorted(self._sites.items())
        ready = [(site, known) for site, known in sites if job_id in known.ready]
        return Lineup(
            ready=tuple(site for site, known in ready if known.busy is None),
            busy=tuple((site, known.busy) for site, known in ready if known.busy is not None),
            preparing=tuple(site for site, known in sites if job_id in known.preparing),
            barred=tuple((site, known.barred[job_id]) for site, known in sites if job_id in known.barred),
        )
