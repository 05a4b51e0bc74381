"""A process that takes tasks, one after the other: unmasking, combining, weighing, evaluating."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Final

import structlog

from coordinator.config import CoordinatorFile, DataFolder
from coordinator.daemon.data_lock import join_data_folder
from coordinator.enrolment.pki import load_pki
from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.leases.keeper import process_name
from coordinator.leases.lease import LeaseLost
from coordinator.rounds.signing import Signatory
from coordinator.storage import open_blobs, records_place
from coordinator.store.base import Store
from coordinator.store.sql.store import open_store
from coordinator.store.staging import Staging
from coordinator.work.bench import Bench
from coordinator.work.keeping import finish, kept, take_task
from coordinator.work.tasks import Task
from ravan.errors import RavanError
from ravan.heap import give_back_at_once
from ravan.logs import set_up_logs
from ravan.version import VERSION

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S: Final = 0.5
"""How often a worker that has nothing to do looks for a task."""

FINISH_S: Final = 20.0
"""How long the task in hand may go on after the worker was told to stop; then it is given back."""

Say = Callable[[str], None]


def run_worker(config: CoordinatorFile, say: Say) -> None:
    """Take tasks until SIGTERM or SIGINT; raise RavanError when the worker cannot start."""
    os.umask(0o077)
    give_back_at_once()
    # Two processes that each begin a new file in the other's way would lose lines.
    set_up_logs(config.log.model_copy(update={"file": ""}))
    with join_data_folder(DataFolder(config.server.data_dir)):
        asyncio.run(_work(config, say))


async def _work(config: CoordinatorFile, say: Say) -> None:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    folder = DataFolder(config.server.data_dir)
    pki = await asyncio.to_thread(load_pki, folder.pki)
    blobs = await asyncio.to_thread(open_blobs, config)
    store = await asyncio.to_thread(open_store, records_place(config))
    name = process_name()
    models = ModelWorker(blobs, folder.work, threads=config.evaluation.threads)
    bench = Bench(
        store=store,
        workshop=LocalWorkshop(blobs, models),
        blobs=blobs,
        uploads=Staging(folder.staging),
        signatory=Signatory(pki.manifest_key),
    )
    say(f"ravan-coordinator {VERSION} worker {name} ready")
    try:
        await Worker(bench, store, name, say).run(told_to_stop)
    finally:
        await models.close()
        await store.close()
    say(f"worker {name} stops")


class Worker:
    """Take one task after the other."""

    def __init__(self, bench: Bench, store: Store, name: str, say: Say) -> None:
        """Be `name`; `say` hears a sentence for each beginning and end."""
        self._bench = bench
        self._store = store
        self._name = name
        self._say = say

    async def run(self, told_to_stop: asyncio.Event) -> None:
        """Work until told to stop; a task in hand is finished, or given back when that takes too long."""
        stopping = asyncio.create_task(told_to_stop.wait())
        while not told_to_stop.is_set():
            task = await self._take()
            if task is None:
                await asyncio.wait([stopping], timeout=LOOK_EVERY_S)
                continue
            doing = asyncio.create_task(self._do(task))
            await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await asyncio.wait([doing], timeout=FINISH_S)
            if not doing.done():
                self._say(f"{_describe(task)}: given back")
                doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
        stopping.cancel()

    async def _take(self) -> Task | None:
        try:
            return await take_task(self._store, self._name)
        except RavanError as error:
            log.warning("no task could be taken; it is tried again", error=str(error))
            return None

    async def _do(self, task: Task) -> None:
        began, what = time.monotonic(), _describe(task)
        self._say(f"{what}: attempt {task.attempts}")
        try:
            async with kept(self._store, task):
                result = await self._bench.do(task)
                await finish(self._store, task, result)
        except LeaseLost:
            self._say(f"{what}: another process has it now, or its round is over")
        except Exception as error:
            # A refusal explains itself; a trace is for what nobody foresaw.
            trace = None if isinstance(error, RavanError) else error
            log.warning("a task failed", task=task.task_id, error=str(error), exc_info=trace)
            self._say(f"{what}: failed: {error}")
        else:
            self._say(f"{what}: done in {time.monotonic() - began:.1f} s")


def _describe(task: Task) -> str:
    return f"{task.kind} {task.job_id}" + (f", round {task.round_number}" if task.round_number else "")
