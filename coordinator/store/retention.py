"""What is kept of the past: versions as the policy says, no orphans, no uploads of runs that are over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from coordinator.store.base import Store, Transaction
from coordinator.store.blobs.base import OwnedBlobs, StoredBlob
from coordinator.store.references import job_blobs, model_blobs, past_blobs
from ravan.clock import Clock
from ravan.codec.plans import decode_plan
from ravan.errors import RavanError
from ravan.ids import Digest, RunId
from ravan.manifest.phases import ENDED_JOBS

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S: Final = 3600.0
"""Between two cleanings."""

GRACE_S: Final = 86_400.0
"""How long a blob stays to which nobody refers: an operator may be about to, and a new version has to be evaluated."""


class StagedRuns(Protocol):
    """Where masked vectors lie, by run."""

    def runs(self) -> Iterable[RunId]:
        """Return the runs of which anything is staged. Blocks on disk."""
        ...

    def discard_run(self, run_id: RunId) -> None:
        """Delete all staged vectors of a run. Blocks on disk."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What must stay."""

    blobs: frozenset[Digest]
    runs: frozenset[RunId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What went."""

    blobs: int
    blob_bytes: int
    runs: int


class Retention:
    """Clean when the daemon starts, and every hour after."""

    def __init__(self, store: Store, blobs: OwnedBlobs, staged: StagedRuns, clock: Clock, *, versions: int) -> None:
        """Keep each job's newest `versions` versions with their sums, and the most accurate version; 0 keeps all."""
        self._store = store
        self._blobs = blobs
        self._staged = staged
        self._clock = clock
        self._versions = versions
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stop; what was about to go stays until the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def clean(self) -> Cleaned:
        """Remove what need not stay."""
        # Listed first: what is put after that is younger than the grace, and what is referred to now stays.
        stored = await asyncio.to_thread(lambda: list(self._blobs.stored()))
        kept = await self._store.transact("retention", self._read_kept)
        return await asyncio.to_thread(self._remove, stored, kept)

    async def _run(self) -> None:
        while True:
            try:
                cleaned = await self.clean()
                if cleaned.blobs or cleaned.runs:
                    log.info("cleaned", blobs=cleaned.blobs, mb=cleaned.blob_bytes >> 20, runs=cleaned.runs)
            except (RavanError, OSError) as error:
                log.warning("cleaning failed; it is tried again in an hour", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    def _read_kept(self, transaction: Transaction) -> Kept:
        jobs = transaction.list_jobs()
        past = (past_blobs(transaction.list_rounds(job.job_id), self._versions) for job in jobs)
        active = (job for job in jobs if job.state not in ENDED_JOBS)
        return Kept(
            blobs=model_blobs(transaction.list_models()).union(*map(job_blobs, jobs), *past),
            runs=frozenset(decode_plan(job.plan.payload).run_id for job in active),
        )

    def _remove(self, stored: Iterable[StoredBlob], kept: Kept) -> Cleaned:
        before = self._clock.now() - GRACE_S
        surplus = (blob for blob in stored if blob.digest not in kept.blobs and blob.stored_at < before)
        sizes = [blob.size_bytes for blob in surplus if self._blobs.remove(blob.digest, before=before)]
        over = [run for run in self._staged.runs() if run not in kept.runs]
        for run in over:
            self._staged.discard_run(run)
        return Cleaned(blobs=len(sizes), blob_bytes=sum(sizes), runs=len(over))
