"""The heavy work of jobs and rounds, on threads and in the evaluation process; the event loop never computes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from coordinator.aggregation.committing import advance_state
from coordinator.aggregation.unmasking import SummedPayloads, sum_payloads
from coordinator.allocation.ranking import head_norms
from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.jobfile import JobFile, held_out_source
from coordinator.jobs.submission import Entropy, draft_job
from coordinator.rounds.ports import Job, PlannedJob
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import ModelRecord
from ravan.adapters.state import decode_state
from ravan.data.source import DataSource
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import JobPlan
from ravan.secagg.combine import RoundSum
from ravan.secagg.unmask import UnmaskJob

_LOG = structlog.get_logger(__name__)


class LocalWorkshop:
    """Do the heavy work on the coordinator's own machine."""

    def __init__(self, blobs: BlobStore, worker: ModelWorker, *, entropy: Entropy = os.urandom) -> None:
        self._blobs = blobs
        self._worker = worker
        self._entropy = entropy

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        """Check a job, draw up its plan and store its first version.

        Raise RavanError, with the value that would work.
        """
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
        began = time.perf_counter()
        summed: SummedPayloads = sum_payloads(works, payloads, job.plan.denominator)
        if summed.suspects:
            names = [works[0].assignment.members[index].site for index in summed.suspects]
            _LOG.warning("shares that contradict all others were left out", job=job.job_id, sites=names)
        seconds = time.perf_counter() - began
        return SummedRound(total=summed.total, sums_digest=self._blobs.put(summed.published), seconds=seconds)

    def _combine(self, plan: JobPlan, state_digest: Digest, total: RoundSum) -> Digest:
        return self._blobs.put(advance_state(plan, self._blobs.read(state_digest), total))

    def _weigh(self, plan: JobPlan, state_digest: Digest) -> dict[BlockId, float]:
        return head_norms(decode_state(plan, self._blobs.read(state_digest)))

    def _held_out(self, file: JobFile, digest: Digest) -> DataSource:
        return held_out_source(file, self._blobs.path(digest))
