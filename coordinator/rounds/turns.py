"""Whose turn it is among jobs that choose among the same sites. Pure: told what jobs want, asked what they may take.

The job whose last round ended longest ago goes first. A job that has to wait claims the sites that it would start with
if all were free, and whoever comes after it leaves those alone; so what is busy now comes together for it, and no job
waits for longer than the rounds that run and one round of each job before it. Jobs that share no site run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from coordinator.rounds.candidates import Lineup
from ravan.ids import JobId, SiteId


class Turns:
    """Keep the order of the jobs and what each is waiting to take."""

    def __init__(self) -> None:
        self._place: dict[JobId, tuple[float, int]] = {}
        self._claims: dict[JobId, frozenset[SiteId]] = {}
        self._steps = 0

    def enter(self, job_id: JobId, since: float) -> None:
        """Take a job in whose last round ended then, or that was submitted then; one that is known keeps its place."""
        if job_id not in self._place:
            self._steps += 1
            self._place[job_id] = since, self._steps

    def begin(self, job_id: JobId) -> None:
        """Note that a round of the job begins: it has what it claimed."""
        self._claims.pop(job_id, None)

    def end(self, job_id: JobId, now: float) -> None:
        """Put a job behind all others, since a round of it has ended."""
        self._steps += 1
        # A clock that is set back brings nobody to the front.
        latest = max((since for since, _ in self._place.values()), default=now)
        self._place[job_id] = max(now, latest), self._steps

    def claim(self, job_id: JobId, sites: Iterable[SiteId]) -> bool:
        """Note what a waiting job would start with; return whether it gave anything up for others."""
        before, after = self._claims.pop(job_id, frozenset()), frozenset(sites)
        if after:
            self._claims[job_id] = after
        return not before <= after

    def forget(self, job_id: JobId) -> None:
        """Forget a job that has ended."""
        self._place.pop(job_id, None)
        self._claims.pop(job_id, None)

    def leave_to_others(self, job_id: JobId, lineup: Lineup) -> Lineup:
        """Return the line-up without the ready sites that are kept for jobs whose turn is before this one's."""
        kept_for: dict[SiteId, JobId] = {}
        for other in sorted(self._claims, key=lambda each: self._place[each]):
            if self._place[other] < self._place[job_id]:
                for site in self._claims[other]:
                    kept_for.setdefault(site, other)
        return replace(
            lineup,
            ready=tuple(site for site in lineup.ready if site not in kept_for),
            kept=tuple((site, kept_for[site]) for site in lineup.ready if site in kept_for),
        )
