"""The workshop of whoever leads: puts each piece of heavy work as a task, does it or has it done, adopts it once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.leases.lease import LeaseLost
from coordinator.rounds.ports import Job, PlannedJob
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.store.base import Store, Transaction
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import ModelRecord
from coordinator.work import forms, tasks
from coordinator.work.failures import error_of, is_final
from coordinator.work.keeping import finish, kept, take_task
from coordinator.work.tasks import Task, TaskKind, TaskState, Values
from ravan.errors import ErrorReason, StateError
from ravan.ids import BlockId, Digest

if TYPE_CHECKING:
    from ravan.secagg.unmask import UnmaskJob

log = structlog.stdlib.get_logger(__name__)

Result = TypeVar("Result")

LOOK_EVERY_S: Final = 0.25
"""How often whoever waits for a task looks at it."""


class LeasedWorkshop:
    """See `coordinator.rounds.ports.Workshop`; planning is not a task, as its answer goes to an operator who waits."""

    def __init__(self, store: Store, local: LocalWorkshop, blobs: BlobStore, *, holder: str, room: int) -> None:
        """Do up to `room` tasks at a time in this process, under the name `holder`; leave the others to workers."""
        self._store = store
        self._local = local
        self._blobs = blobs
        self._holder = holder
        self._room = room

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        """Check a job and draw up its plan and first state; raise RavanError with the value that would work."""
        return await self._local.plan(file, model=model, evaluation_digest=evaluation_digest, fleet_size=fleet_size)

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        """Have the staged payloads unmasked and their sums stored; raise ProtocolError where they cannot be trusted."""
        from coordinator.work.sums import restore_total  # noqa: PLC0415 - it computes

        async def read(result: Values) -> SummedRound:
            digest = forms.digest_in(result, "sums")
            published = await asyncio.to_thread(self._blobs.read, digest)
            total = await asyncio.to_thread(restore_total, works, published, job.plan.denominator)
            return SummedRound(total=total, sums_digest=digest, seconds=float(result["seconds"]))

        return await self._have_done(
            (TaskKind.UNMASK, job, works[0].assignment.round_number, {}),
            lambda: self._local.unmask(job, works, payloads),
            forms.write_summed,
            read,
        )

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:
        """Have the mean deltas of a round added to a version; raise ModelError for one that is not finite."""
        return await self._have_done(
            (TaskKind.COMBINE, job, number, forms.combine_arguments(state_digest, summed.sums_digest)),
            lambda: self._local.combine(job, number, state_digest, summed),
            forms.write_state,
            _at_once(forms.read_state),
        )

    async def weigh(self, job: Job, state_digest: Digest) -> Mapping[BlockId, float]:
        """Have the norm of every head's product in a version told."""
        return await self._have_done(
            (TaskKind.WEIGH, job, 0, forms.state_argument(state_digest)),
            lambda: self._local.weigh(job, state_digest),
            forms.write_norms,
            _at_once(forms.read_norms),
        )

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        """Have a version measured on the held-out examples."""
        return await self._have_done(
            (TaskKind.EVALUATE, job, 0, forms.state_argument(state_digest)),
            lambda: self._local.evaluate(job, state_digest),
            forms.write_evaluation,
            _at_once(forms.read_evaluation),
        )

    async def _have_done(
        self,
        what: tuple[TaskKind, Job, int, Values],
        do: Callable[[], Awaitable[Result]],
        write: Callable[[Result], Values],
        read: Callable[[Values], Awaitable[Result]],
    ) -> Result:
        kind, job, number, arguments = what

        def put(transaction: Transaction) -> Task:
            wanted = tasks.new_task(kind, job.job_id, number, arguments, transaction.now())
            kept_task = tasks.put(transaction.get_task(wanted.task_id), wanted)
            transaction.put_task(kept_task)
            return kept_task

        task = await self._store.transact("put_task", put)
        while True:
            if task.state is TaskState.DONE:
                return await read(task.result)
            if task.state is TaskState.FAILED:
                raise error_of(task.result)
            if self._room and (mine := await take_task(self._store, self._holder, task_id=task.task_id)) is not None:
                done = await self._try(mine, do, write)
                if done is not None:
                    return done
            else:
                await asyncio.sleep(LOOK_EVERY_S)
            task = await self._look_at(task.task_id)

    async def _look_at(self, task_id: str) -> Task:
        found = await self._store.transact("look_at_task", lambda transaction: transaction.get_task(task_id))
        if found is None:
            raise StateError("The work is not wanted any more: its round is over.", reason=ErrorReason.WRONG_STATE)
        return found

    async def _try(
        self, mine: Task, do: Callable[[], Awaitable[Result]], write: Callable[[Result], Values]
    ) -> Result | None:
        """Do a task here; None when it has to be looked at again."""
        self._room -= 1
        try:
            async with kept(self._store, mine):
                result = await do()
                await finish(self._store, mine, write(result))
                return result
        except LeaseLost:
            log.warning("a task was taken over", task=mine.task_id)
        except Exception as error:
            if is_final(error):
                raise
            log.warning("an attempt at a task failed", task=mine.task_id, attempt=mine.attempts, error=str(error))
        finally:
            self._room += 1
        return None


def _at_once(read: Callable[[Values], Result]) -> Callable[[Values], Awaitable[Result]]:
    async def reading(values: Values) -> Result:
        return read(values)

    return reading
