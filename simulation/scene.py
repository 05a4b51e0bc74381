"""A coordinator, a fleet and a job that runs between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from coordinator.config import DataFolder
from coordinator.operator_client import OperatorClient
from ravan.manifest.phases import JobState
from ravan.wire.v1.operator_service_pb2 import Job
from simulation.book import RoundBook, Standing
from simulation.faults import DropOuts
from simulation.fleet import Fleet
from simulation.headquarters import Headquarters
from simulation.job import Order, submit
from simulation.proof import CountedRound, count_updates

ENDED = frozenset({JobState.COMPLETED, JobState.STOPPED, JobState.FAILED, JobState.PAUSED})
"""States in which nothing happens any more by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that takes part."""

    folder: Path
    headquarters: Headquarters
    fleet: Fleet
    client: OperatorClient
    book: RoundBook
    job_id: str

    async def until_completed(self, *, within_s: float) -> Job:
        """Wait for the job's last round and return the job; raise RuntimeError where it ends in another way."""
        standing = await self.book.until(self.job_id, lambda now: now.state in ENDED, within_s=within_s)
        if standing.state is not JobState.COMPLETED:
            raise RuntimeError(f"The job did not complete: {standing.message}")
        return await self.client.get_job(self.job_id)

    async def until_committed(self, rounds: int, *, within_s: float) -> Standing:
        """Wait until so many rounds have made a version."""
        return await self.book.until(
            self.job_id, lambda now: now.committed >= rounds or now.state in ENDED, within_s=within_s
        )

    async def finish(self, *, within_s: float = 120.0) -> Job:
        """Let the round that runs come to its end, start no other, and return the job."""
        await self.client.pause_job(self.job_id)
        await self.book.until(
            self.job_id, lambda now: now.state in ENDED and now.outcome is not None, within_s=within_s
        )
        return await self.client.get_job(self.job_id)

    async def count(self, job: Job) -> list[CountedRound]:
        """Read from the versions who was counted."""
        pki = DataFolder(self.headquarters.folder).pki
        return await count_updates(self.client, job, pki, self.folder / "versions")


@asynccontextmanager
async def set_scene(
    folder: Path,
    sites: int,
    order: Order,
    *,
    processes: int = 2,
    drop_outs: DropOuts | None = None,
    small: int = 0,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> AsyncIterator[Scene]:
    """Start a coordinator, enrol `sites`, submit the job; nobody works before `fleet.start()`.

    `settings` are `Headquarters`'; `drop_outs` and `small` are the `Fleet`'s.
    """
    headquarters = Headquarters(folder / "headquarters", settings)
    await headquarters.found()
    await headquarters.start()
    try:
        async with (
            OperatorClient(headquarters.endpoint()) as client,
            Fleet(folder / "sites", sites, processes=processes, drop_outs=drop_outs, small=small) as fleet,
        ):
            await fleet.enrol(client)
            yield Scene(
                folder=folder,
                headquarters=headquarters,
                fleet=fleet,
                client=client,
                book=RoundBook(DataFolder(headquarters.folder).database, headquarters.check),
                job_id=await submit(client, order, folder),
            )
    finally:
        await headquarters.stop()
