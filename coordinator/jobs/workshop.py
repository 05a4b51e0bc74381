"""The heavy work of jobs and rounds, on threads and in the evaluation process; the event loop never computes.

What computes is imported where it is first needed, on the thread that needs it: the daemon is ready before.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.jobfile import JobFile, held_out_source
from coordinator.rounds.ports import Job, PlannedJob
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.records import ModelRecord
from ravan.data.source import DataSource
from ravan.disk import room_in
from ravan.heap import give_back_now
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan

if TYPE_CHECKING:
    from coordinator.jobs.submission import Entropy
    from ravan.secagg.combine import RoundSum
    from ravan.secagg.unmask import UnmaskJob

_LOG = structlog.get_logger(__name__)


class LocalWorkshop:
    """Do the heavy work on the coordinator's own machine."""

    def __init__(self, blobs: OwnedBlobs, worker: ModelWorker, *, entropy: Entropy = os.urandom) -> None:
        self._blobs = blobs
        self._worker = worker
        self._entropy = entropy

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        """Check a job, draw up its plan and store its first version.

        Raise RavanError, with the value that would work.
        """
        from coordinator.jobs.submission import draft_job

        draft = await draft_job(
            file,
            model=model,
            held_out=self._held_out(file, evaluation_digest),
            fleet_size=fleet_size,
            inspector=self._worker,
            entropy=self._entropy,
        )
        digest = await asyncio.to_thread(self._blobs.put, draft.initial_state)
        return PlannedJob(plan=draft.plan, state_digest=digest, notes=draft.notes)

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        """Unmask the staged payloads (by member index) of all groups, decode the sums and store them as a blob.

        Raise ProtocolError, CANARY_MISMATCH among others, when the sums cannot be trusted.
        """
        return await asyncio.to_thread(self._unmask, job, works, payloads)

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:  # noqa: ARG002 - whose round it is
        """Add the mean deltas to a model version and store the new one; raise ModelError for one that is not finite."""
        return await asyncio.to_thread(self._combine, job.plan, state_digest, summed.total)

    async def weigh(self, job: Job, state_digest: Digest) -> Mapping[BlockId, float]:
        """Return the norm of every head's product in a model version."""
        return await asyncio.to_thread(self._weigh, job.plan, state_digest)

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        """Measure a model version on the held-out examples."""
        state = await asyncio.to_thread(self._blobs.read, state_digest)
        found = await self._worker.evaluate(job.plan, state, self._held_out(job.file, job.evaluation_digest))
        return Evaluation(accuracy=found.accuracy, loss=found.loss)

    def _unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        from coordinator.aggregation.unmasking import sum_payloads

        give_back_now()
        began = time.perf_counter()
        with self._unfinished_blob() as path:
            with path.open("wb") as file:
                summed = sum_payloads(works, payloads, job.plan.denominator, file)
            seconds = time.perf_counter() - began
            self._blobs.adopt(path, summed.sums_digest)
        if summed.suspects:
            names = [works[0].assignment.members[index].site for index in summed.suspects]
            _LOG.warning("shares that contradict all others were left out", job=job.job_id, sites=names)
        return SummedRound(total=summed.total, sums_digest=summed.sums_digest, seconds=seconds)

    @contextmanager
    def _unfinished_blob(self) -> Iterator[Path]:
        """Give an empty file beside the blobs, which take it within the block; else it goes."""
        with room_in(self._blobs.incoming):
            descriptor, name = tempfile.mkstemp(dir=self._blobs.incoming)
            os.close(descriptor)
            try:
                yield Path(name)
            finally:
                Path(name).unlink(missing_ok=True)

    def _combine(self, plan: JobPlan, state_digest: Digest, total: RoundSum) -> Digest:
        from coordinator.aggregation.committing import advance_state

        give_back_now()
        return self._blobs.put(advance_state(plan, self._blobs.read(state_digest), total))

    def _weigh(self, plan: JobPlan, state_digest: Digest) -> dict[BlockId, float]:
        from coordinator.allocation.ranking import head_norms
        from ravan.adapters.state import decode_state

        return head_norms(decode_state(plan, self._blobs.read(state_digest)))

    def _held_out(self, file: JobFile, digest: Digest) -> DataSource:
        return held_out_source(file, self._blobs.path(digest))
