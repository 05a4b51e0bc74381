"""The daemon's side of the evaluation process: starts it when first needed, replaces it when it dies."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final, TypeVar

from coordinator.evaluation.findings import AlignedBases, Evaluation, Inventory
from coordinator.evaluation.folders import materialise_model
from coordinator.evaluation.worker import evaluate_state, inspect_model, prepare_process, write_directions
from coordinator.store.blobs.base import OwnedBlobs
from ravan.data.source import DataSource
from ravan.errors import ErrorReason, ResourceError
from ravan.manifest.plan import JobPlan, ModelFile, Precision, TrainingSettings

Result = TypeVar("Result")

_ATTEMPTS: Final = 2


class ModelWorker:
    """Run model work in one process of its own, one call after the other."""

    def __init__(self, blobs: OwnedBlobs, work_dir: Path, *, threads: int = 1) -> None:
        self._blobs = blobs
        self._work_dir = work_dir
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None

    async def inspect(
        self, files: Sequence[ModelFile], training: TrainingSettings, targets: tuple[str, ...], precision: Precision
    ) -> Inventory:
        """Tell what the model offers a job; raises what `worker.inspect_model` raises."""
        folder = await asyncio.to_thread(materialise_model, files, self._blobs, self._work_dir)
        return await self.run(inspect_model, folder, training, targets, precision)

    async def align(self, plan: JobPlan, held_out: DataSource) -> AlignedBases:
        """Find and store what leads the bases of an `aligned` job; raises what `worker.write_directions` raises."""
        folder = await asyncio.to_thread(materialise_model, plan.model_files, self._blobs, self._work_dir)
        path, found = await self.run(write_directions, folder, plan, held_out, self._blobs.incoming)
        await asyncio.to_thread(self._blobs.adopt, path, found.directions)
        return found

    async def evaluate(self, plan: JobPlan, state: bytes, held_out: DataSource) -> Evaluation:
        """Score a version on the held-out file; raises what `worker.evaluate_state` raises."""
        folder = await asyncio.to_thread(materialise_model, plan.model_files, self._blobs, self._work_dir)
        directions = await asyncio.to_thread(self._blobs.path, plan.directions) if plan.directions else None
        return await self.run(evaluate_state, folder, plan, state, held_out, directions)

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run a module-level function in the process, a second time when the process dies under it.

        Raise ResourceError MEMORY_LIMIT when it dies twice.
        """
        for _ in range(_ATTEMPTS):
            pool = self._running_pool()
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
            except BrokenProcessPool:
                self._discard(pool)
        raise ResourceError(
            "The evaluation process died twice over the same task, most likely for lack of memory.",
            reason=ErrorReason.MEMORY_LIMIT,
            next_step="Give the coordinator's machine more memory, or choose a smaller base model.",
        )

    async def close(self) -> None:
        """End the process; what it is doing is finished first, what waits is dropped."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    def _running_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not fork: the daemon has threads, and gRPC does not survive a fork.
            self._pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=prepare_process, initargs=(self._threads,)
            )
        return self._pool

    def _discard(self, pool: ProcessPoolExecutor) -> None:
        pool.shutdown(wait=False)
        if self._pool is pool:
            self._pool = None
