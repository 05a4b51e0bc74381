"""Holding a task while it is worked at, and writing what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from coordinator.leases.lease import LeaseLost
from coordinator.store.base import Store, Transaction
from coordinator.work import tasks
from coordinator.work.failures import failure_of, is_final
from coordinator.work.tasks import Task, TaskState, Values
from ravan.errors import RavanError

log = structlog.stdlib.get_logger(__name__)

RENEWALS: Final = 3
"""Renewals in a term."""


async def take_task(store: Store, holder: str, *, task_id: str | None = None) -> Task | None:
    """Take this task, or whichever waits longest; None when there is none, or this one has an end."""

    def work(transaction: Transaction) -> Task | None:
        now = transaction.now()
        for known in _candidates(transaction, task_id):
            taken = tasks.take(known, holder, now)
            if taken is not None:
                transaction.put_task(taken)
                if taken.state is TaskState.RUNNING:
                    return taken
        return None

    return await store.transact("take_task", work)


def _candidates(transaction: Transaction, task_id: str | None) -> Sequence[Task]:
    if task_id is None:
        return transaction.list_tasks()
    known = transaction.get_task(task_id)
    return [] if known is None else [known]


@asynccontextmanager
async def kept(store: Store, held: Task) -> AsyncIterator[None]:
    """Renew a task while the block works at it, and write its failure or that it is given back.

    Whatever ends the block is raised on, once the task is free for the next attempt or has failed.
    """
    renewing = asyncio.create_task(_renew(store, held), name=f"keep {held.task_id}")
    try:
        yield
    except LeaseLost:
        raise
    except asyncio.CancelledError:
        await _write(store, "give_task_back", held, lambda known, now: tasks.give_back(known, held, now))
        raise
    except Exception as error:
        failure, for_good = failure_of(error, held.holder), is_final(error)
        await _write(
            store, "fail_task", held, lambda known, now: tasks.fail(known, held, failure, now, for_good=for_good)
        )
        raise
    finally:
        renewing.cancel()


async def finish(store: Store, held: Task, result: Values) -> None:
    """Write what came out; raise LeaseLost when another has taken the task, whose result counts then."""

    def work(transaction: Transaction) -> None:
        known = transaction.get_task(held.task_id)
        transaction.put_task(tasks.finish(known, held, result, transaction.now()))

    await store.transact("finish_task", work)


async def _renew(store: Store, held: Task) -> None:
    while True:
        await asyncio.sleep(tasks.TERM_S / RENEWALS)
        await _write(store, "renew_task", held, lambda known, now: tasks.renew(known, held, now))


async def _write(store: Store, name: str, held: Task, change: Callable[[Task | None, float], Task]) -> None:
    """Change a task; one that is no longer ours stays, and a database that is away is for its end to tell."""

    def work(transaction: Transaction) -> None:
        transaction.put_task(change(transaction.get_task(held.task_id), transaction.now()))

    try:
        await store.transact(name, work)
    except RavanError as error:
        log.warning("a task was not written", task=held.task_id, what=name, why=str(error))
