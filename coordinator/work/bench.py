"""Doing a task from what is stored alone, as a process does that leads nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from coordinator.jobs.workshop import LocalWorkshop
from coordinator.rounds.ports import Job, StagedUploads
from coordinator.rounds.recovery import open_job
from coordinator.rounds.results import SummedRound
from coordinator.rounds.signing import Signatory
from coordinator.store.base import Store, Transaction
from coordinator.store.blobs.base import BlobStore
from coordinator.store.records import JobRecord, RoundEntry
from coordinator.work import forms
from coordinator.work.replay import RoundTerms, read_terms
from coordinator.work.sums import restore_total
from coordinator.work.tasks import Task, TaskKind, Values
from ravan.errors import ErrorReason, StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """All that a task needs."""

    store: Store
    workshop: LocalWorkshop
    blobs: BlobStore
    uploads: StagedUploads
    signatory: Signatory

    async def do(self, task: Task) -> Values:
        """Return what comes out of a task; raise what the work raises, StateError when its job or round is over."""
        record, entries = await self.store.transact("read_task", lambda transaction: _read(transaction, task))
        job = open_job(self.signatory, record)
        match task.kind:
            case TaskKind.UNMASK:
                terms = await self._terms(job, entries)
                return forms.write_summed(await self.workshop.unmask(job, terms.works, terms.payloads))
            case TaskKind.COMBINE:
                return await self._combine(job, task, entries)
            case TaskKind.WEIGH:
                return forms.write_norms(await self.workshop.weigh(job, forms.digest_in(task.arguments, "state")))
            case TaskKind.EVALUATE:
                found = await self.workshop.evaluate(job, forms.digest_in(task.arguments, "state"))
                return forms.write_evaluation(found)

    async def _combine(self, job: Job, task: Task, entries: list[RoundEntry]) -> Values:
        terms = await self._terms(job, entries)
        state, sums = (forms.digest_in(task.arguments, name) for name in ("state", "sums"))
        published = await asyncio.to_thread(self.blobs.read, sums)
        total = await asyncio.to_thread(restore_total, terms.works, published, job.plan.denominator)
        summed = SummedRound(total=total, sums_digest=sums, seconds=0.0)
        return forms.write_state(await self.workshop.combine(job, task.round_number, state, summed))

    async def _terms(self, job: Job, entries: list[RoundEntry]) -> RoundTerms:
        return await asyncio.to_thread(read_terms, job, entries, self.signatory, self.uploads)


def _read(transaction: Transaction, task: Task) -> tuple[JobRecord, list[RoundEntry]]:
    record = transaction.get_job(task.job_id)
    if record is None:
        raise StateError(f"There is no job {task.job_id}.", reason=ErrorReason.NOT_FOUND)
    return record, list(transaction.list_round_entries(task.job_id, task.round_number))
