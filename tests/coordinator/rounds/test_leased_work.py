"""A job whose heavy work is done by whoever takes it: by the coordinator, by workers, by one after another died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plant import MANIFEST_KEY, PATIENCE_S, Plant, draw_plan

from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.rounds.ports import Job, PlannedJob
from coordinator.rounds.replies import JobDetail
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.rounds.signing import Signatory
from coordinator.store.base import Transaction
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.records import ModelRecord
from coordinator.work import worker as worker_module
from coordinator.work.bench import Bench
from coordinator.work.tasks import MOST_ATTEMPTS, Task, TaskKind, TaskState
from coordinator.work.worker import Worker
from coordinator.work.workshop import LeasedWorkshop
from ravan.adapters.state import decode_state, encode_state, initial_state
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import BlockKind, Digest, JobId
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.secagg.unmask import UnmaskJob

SITES = 4


class RealSums(LocalWorkshop):
    """Unmasks, combines and weighs for real; what needs a model is made up."""

    def __init__(self, blobs: LocalBlobs, folder: Path) -> None:
        super().__init__(blobs, ModelWorker(blobs, folder))
        self.blobs = blobs
        self.done: list[TaskKind] = []
        self.raises: list[Exception] = []
        self.stalls_in: TaskKind | None = None
        self.stalled = asyncio.Event()

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        plan = draw_plan(file)
        return PlannedJob(plan=plan, state_digest=self.blobs.put(encode_state(plan, initial_state(plan))), notes=())

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        await self._begin(TaskKind.UNMASK)
        return await super().unmask(job, works, payloads)

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:
        await self._begin(TaskKind.COMBINE)
        return await super().combine(job, number, state_digest, summed)

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        await self._begin(TaskKind.EVALUATE)
        return Evaluation(accuracy=state_digest[0] / 255, loss=1 / 3)

    async def _begin(self, kind: TaskKind) -> None:
        if kind is TaskKind.UNMASK and self.raises:
            raise self.raises.pop(0)
        if kind is self.stalls_in:
            self.stalled.set()
            await asyncio.Event().wait()
        self.done.append(kind)


class House:
    """A plant whose workshop is leased, with `room` for tasks in the coordinator itself, and workers beside it."""

    def __init__(self, folder: Path, *, room: int) -> None:
        self.blobs = LocalBlobs(folder / "blobs")
        self.plant = Plant(folder, SITES)
        self.local = RealSums(self.blobs, folder / "work")
        leased = LeasedWorkshop(self.plant.store, self.local, self.blobs, holder="hq", room=room)
        self.plant.workbench = leased  # type: ignore[assignment] # as the conductor sees it
        self.plant.conductor = self.plant.new_conductor()
        self.folder = folder
        self.said: list[str] = []

    def worker(self, name: str) -> tuple[RealSums, Worker]:
        sums = RealSums(self.blobs, self.folder / "work")
        bench = Bench(
            store=self.plant.store,
            workshop=sums,
            blobs=self.blobs,
            uploads=self.plant.shelf,
            signatory=Signatory(MANIFEST_KEY),
        )
        return sums, Worker(bench, self.plant.store, name, self.said.append)

    async def complete(self, rounds: int = 2, policy: str = "coverage") -> JobDetail:
        await self.plant.connect_all()
        job_id = await self.plant.submit(rounds=rounds, policy=policy)
        return await self.until_completed(job_id)

    async def until_completed(self, job_id: JobId) -> JobDetail:
        detail = await self.plant.until(
            job_id, lambda detail: detail.record.state is not JobState.RUNNING and bool(detail.rounds)
        )
        assert detail.record.state is JobState.COMPLETED, detail.record.message
        return detail

    async def tasks(self) -> list[Task]:
        return list(await self.plant.store.transact("look", lambda t: t.list_tasks()))

    async def end_leases(self) -> None:
        """Let time go by for everyone who holds a task."""

        def work(transaction: Transaction) -> None:
            for task in transaction.list_tasks():
                transaction.put_task(replace(task, until=transaction.now() - 1))

        await self.plant.store.transact("age", work)

    def moved(self, detail: JobDetail, number: int) -> set[float]:
        """Return by how much a round moved the numbers of all heads."""
        plan = draw_plan(self.plant.conductor._runners[detail.record.job_id].job.file)
        states = [
            decode_state(plan, self.blobs.read(digest))
            for digest in (detail.rounds[number - 1].state_digest, detail.rounds[number].state_digest)
        ]
        return {
            round(float(value), 5)
            for block in states[0]
            if block.kind is BlockKind.HEAD
            for value in np.ravel(states[1][block] - states[0][block])
        }


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_EVERY_S", 0.01)


async def test_workers_and_coordinator_make_the_same_versions(tmp_path: Path) -> None:
    versions = []
    for place, room in (("hq", 4), ("workers", 0)):
        house = House(tmp_path / place, room=room)
        async with house.plant:
            sums, worker = house.worker("w1")
            async with running(*([] if room else [worker])):
                detail = await house.complete()
            versions.append([each.state_digest for each in detail.rounds])
            assert [each.outcome for each in detail.rounds] == [RoundOutcome.COMMITTED] * 2
            per_round = [TaskKind.UNMASK, TaskKind.COMBINE, TaskKind.EVALUATE]
            assert (house.local if room else sums).done == [TaskKind.EVALUATE, *per_round, *per_round]
            assert (sums if room else house.local).done == []
            assert len(house.moved(detail, 1)) == 1
            # What a round has come to is in its record; nothing of the work is kept.
            assert await house.tasks() == []
    assert versions[0] == versions[1]


async def test_two_workers_do_each_task_once(tmp_path: Path) -> None:
    house = House(tmp_path, room=0)
    async with house.plant:
        (one, first), (two, second) = house.worker("w1"), house.worker("w2")
        async with running(first, second):
            await house.complete(rounds=3)
        assert sorted(one.done + two.done) == sorted(
            [TaskKind.EVALUATE] * 4 + [TaskKind.UNMASK] * 3 + [TaskKind.COMBINE] * 3
        )
        assert sum("done in" in each for each in house.said) == 10


async def test_heads_are_weighed_by_a_worker(tmp_path: Path) -> None:
    house = House(tmp_path, room=0)
    async with house.plant:
        _, worker = house.worker("w1")
        async with running(worker):
            detail = await house.complete(rounds=1, policy="weight")
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED
        assert any(each.startswith("weigh ") for each in house.said)


@pytest.mark.parametrize("kind", [TaskKind.UNMASK, TaskKind.COMBINE, TaskKind.EVALUATE])
async def test_what_a_dead_worker_held_is_done_by_another_and_its_own_result_comes_too_late(
    tmp_path: Path, kind: TaskKind
) -> None:
    house = House(tmp_path, room=0)
    async with house.plant:
        (frozen, first), (_, second) = house.worker("w1"), house.worker("w2")
        frozen.stalls_in = kind
        stop = asyncio.Event()
        standing = asyncio.create_task(first.run(stop))
        await house.plant.connect_all()
        job_id = await house.plant.submit(rounds=1)
        async with asyncio.timeout(PATIENCE_S):
            await frozen.stalled.wait()
        async with running(second):
            await asyncio.sleep(0.1)
            held = [task for task in await house.tasks() if task.state is TaskState.RUNNING]
            assert [(task.kind, task.holder) for task in held] == [(kind, "w1")]
            await house.end_leases()
            detail = await house.until_completed(job_id)
        assert [each.outcome for each in detail.rounds] == [RoundOutcome.COMMITTED]
        stop.set()
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)


async def test_a_worker_that_is_told_to_stop_gives_back_what_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FINISH_S", 0.05)
    house = House(tmp_path, room=0)
    async with house.plant:
        frozen, first = house.worker("w1")
        frozen.stalls_in = TaskKind.UNMASK
        await house.plant.connect_all()
        async with running(first):
            job_id = await house.plant.submit(rounds=1)
            async with asyncio.timeout(PATIENCE_S):
                await frozen.stalled.wait()
        [task] = [task for task in await house.tasks() if task.kind is TaskKind.UNMASK]
        assert (task.state, task.attempts, task.fence) == (TaskState.WAITING, 0, 1)
        assert house.said[-1].endswith("given back")
        async with running(house.worker("w2")[1]):
            detail = await house.until_completed(job_id)
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED


async def test_a_restarted_coordinator_adopts_what_was_done_meanwhile(tmp_path: Path) -> None:
    house = House(tmp_path, room=0)
    async with house.plant:
        sums, worker = house.worker("w1")
        sums.stalls_in = TaskKind.COMBINE
        stop = asyncio.Event()
        standing = asyncio.create_task(worker.run(stop))
        await house.plant.connect_all()
        job_id = await house.plant.submit(rounds=1)
        async with asyncio.timeout(PATIENCE_S):
            await sums.stalled.wait()
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)
        await house.plant.restart_daemon()
        await house.end_leases()
        other, second = house.worker("w2")
        async with running(second):
            detail = await house.until_completed(job_id)
        assert detail.rounds[0].outcome is RoundOutcome.COMMITTED
        # The masks had been removed already.
        assert other.done == [TaskKind.COMBINE, TaskKind.EVALUATE]


@pytest.mark.parametrize("room", [0, 1])
async def test_work_that_must_fail_again_is_not_tried_again(tmp_path: Path, room: int) -> None:
    refusal = ProtocolError(
        "The masks did not cancel.", reason=ErrorReason.CANARY_MISMATCH, next_step="Look at a site."
    )
    house = House(tmp_path, room=room)
    async with house.plant:
        sums, worker = house.worker("w1")
        (house.local if room else sums).raises = [refusal]
        async with running(*([] if room else [worker])):
            await house.plant.connect_all()
            job_id = await house.plant.submit(rounds=1)
            detail = await house.plant.until(job_id, lambda d: bool(d.rounds) and d.rounds[0].outcome is not None)
        assert detail.rounds[0].outcome is RoundOutcome.CANARY_MISMATCH


@pytest.mark.parametrize("room", [0, 1])
@pytest.mark.parametrize("failures", [MOST_ATTEMPTS - 1, MOST_ATTEMPTS])
async def test_work_that_fails_by_chance_is_tried_a_bounded_number_of_times(
    tmp_path: Path, room: int, failures: int
) -> None:
    house = House(tmp_path, room=room)
    async with house.plant:
        sums, worker = house.worker("w1")
        (house.local if room else sums).raises = [OSError("flaky disk")] * failures
        async with running(*([] if room else [worker])):
            await house.plant.connect_all()
            job_id = await house.plant.submit(rounds=1)
            detail = await house.plant.until(job_id, lambda d: bool(d.rounds) and d.rounds[0].outcome is not None)
        expected = RoundOutcome.COMMITTED if failures < MOST_ATTEMPTS else RoundOutcome.INTERNAL
        assert detail.rounds[0].outcome is expected


async def test_a_round_that_is_stopped_takes_its_tasks_with_it(tmp_path: Path) -> None:
    house = House(tmp_path, room=0)
    async with house.plant:
        sums, worker = house.worker("w1")
        sums.stalls_in = TaskKind.UNMASK
        stop = asyncio.Event()
        standing = asyncio.create_task(worker.run(stop))
        await house.plant.connect_all()
        job_id = await house.plant.submit(rounds=1)
        async with asyncio.timeout(PATIENCE_S):
            await sums.stalled.wait()
        await house.plant.conductor.stop_job(job_id)
        assert await house.tasks() == []
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)
        assert (await house.plant.conductor.job_detail(job_id)).record.state is JobState.STOPPED
