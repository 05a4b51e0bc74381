"""What a real session does with its worker's memory when jobs fail or end, and with a worker that the system ends."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from agent_world import Round, World
from scripted_headquarters import Left
from tiny_jobs import tiny_job
from worker_thread import WorkerThread

from edge_agent import app
from edge_agent.config import AgentFile
from edge_agent.hardware.limits import LimitReader
from edge_agent.session.lane import Lane
from edge_agent.worker.orders import Answer, ForgetJob, MeasureJob, Order, Tell
from edge_agent.worker.port import WorkerKilledError, untold
from edge_agent.worker.training import RefreshData, TrainRound
from ravan.errors import ErrorReason
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.instructions import JobEnded
from ravan.manifest.phases import AgentActivity, DropReason, JobState
from ravan.manifest.profile import JobProfile

PATIENCE_S = 60.0


class WatchedWorker(WorkerThread):
    """Writes down what it is asked; a test may have it do something before an order."""

    def __init__(self, config: AgentFile) -> None:
        super().__init__(config)
        self.asked: list[str] = []
        self.forgotten: list[Digest] = []
        self.before: Callable[[Order[Any], threading.Event], None] = lambda _order, _cancelled: None

    def ask(self, order: Order[Answer], cancelled: threading.Event, tell: Tell = untold) -> Answer:
        self.asked.append(type(order).__name__)
        if isinstance(order, ForgetJob):
            self.forgotten.append(order.digest)
        try:
            self.before(order, cancelled)
            return super().ask(order, cancelled, tell)
        finally:
            self.asked.append(f"end of {type(order).__name__}")

    def hurry(self) -> None:
        self.asked.append("hurry")

    def rest(self) -> int:
        self.asked.append("rest")
        return super().rest()


class Scene:
    """A world whose agent's worker and lane a test can reach."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.worker = WatchedWorker(AgentFile())
        self.lane = Lane()

    def employ(self, config: AgentFile) -> WatchedWorker:
        before, self.worker = self.worker.before, WatchedWorker(config)
        self.worker.before = before
        return self.worker

    def make_lane(self, **settings: Any) -> Lane:
        self.lane = Lane(**settings)
        return self.lane

    async def until(self, done: Callable[[], bool]) -> None:
        def wait() -> None:
            until = time.monotonic() + PATIENCE_S
            while not done():
                assert time.monotonic() < until
                time.sleep(0.02)

        await asyncio.to_thread(wait)

    def other_job(self) -> Digest:
        """Have headquarters go over to another job; return the digest of its plan."""
        plan = dataclasses.replace(self.world.plan, job_id=JobId("other"), run_id=RunId(b"o" * 16))
        self.world.job = dataclasses.replace(self.world.job, plan=plan)
        return self.world.plan_digest


@pytest.fixture
def scene(world: World, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(world)
    monkeypatch.setattr(app, "Lane", made.make_lane)
    return made


def fail_over(kind: type[Order[Any]], error: Exception) -> Callable[[Order[Any], threading.Event], None]:
    def before(order: Order[Any], _: threading.Event) -> None:
        if isinstance(order, kind):
            raise error

    return before


def killed() -> WorkerKilledError:
    return WorkerKilledError("", reason=ErrorReason.MEMORY_LIMIT)


async def test_what_was_read_for_a_job_that_cannot_be_measured_goes_again(scene: Scene) -> None:
    scene.worker.before = fail_over(MeasureJob, RuntimeError("no"))
    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        assert await scene.world.hq.hear(Left) == Left(scene.world.plan.job_id, 0, DropReason.INTERNAL)
        await scene.until(lambda: "rest" in scene.worker.asked)


async def test_beside_another_job_it_goes_alone(scene: Scene) -> None:
    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        other = scene.other_job()
        scene.worker.before = fail_over(MeasureJob, RuntimeError("no"))
        scene.world.prepare()
        await scene.world.hq.hear(Left)
        await scene.until(lambda: "end of ForgetJob" in scene.worker.asked)
        assert scene.worker.forgotten == [other]
        assert "rest" not in scene.worker.asked


async def test_what_was_read_for_a_job_that_ends_before_it_is_ready_goes_again(scene: Scene) -> None:
    began = threading.Event()

    def hang(order: Order[Any], cancelled: threading.Event) -> None:
        if isinstance(order, MeasureJob):
            began.set()
            cancelled.wait(PATIENCE_S)

    scene.worker.before = hang
    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        scene.world.hq.tell(JobEnded(job_id=scene.world.plan.job_id, state=JobState.STOPPED))
        await scene.until(lambda: "rest" in scene.worker.asked)


async def test_forgetting_is_not_lost_where_the_job_is_called_off_again_meanwhile(scene: Scene) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(order: Order[Any], _: threading.Event) -> None:
        if isinstance(order, TrainRound):
            began.set()
            go_on.wait(PATIENCE_S)

    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        first, first_job = scene.world.plan_digest, scene.world.plan.job_id
        scene.other_job()
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        scene.worker.before = wait
        current = Round(scene.world, *scene.world.train(1))
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        scene.world.hq.tell(JobEnded(job_id=first_job, state=JobState.STOPPED))
        await scene.until(lambda: len(scene.lane._queue) == 1)
        await scene.lane.cancel(first)
        go_on.set()
        await current.trained()
        await scene.until(lambda: scene.worker.forgotten == [first])


async def test_a_worker_that_cannot_even_forget_is_ended_and_the_agent_lives_on(scene: Scene) -> None:
    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        first_job = scene.world.plan.job_id
        scene.other_job()
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        scene.worker.before = fail_over(ForgetJob, RuntimeError("no"))
        scene.world.hq.tell(JobEnded(job_id=first_job, state=JobState.STOPPED))
        await scene.until(lambda: "rest" in scene.worker.asked)
        await Round(scene.world, *scene.world.train(1)).trained()


GIB = 1 << 30


@pytest.mark.parametrize(
    ("kind", "left_by_others", "raised"),
    [(TrainRound, 64 * GIB, True), (TrainRound, 1 << 20, False), (RefreshData, 64 * GIB, False)],
)
async def test_a_kill_raises_the_cost_only_where_training_itself_may_have_taken_the_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: type[Order[Any]], left_by_others: int, *, raised: bool
) -> None:
    def end(order: Order[Any], _: threading.Event) -> None:
        if isinstance(order, kind):
            monkeypatch.setattr(LimitReader, "available_bytes", lambda _: left_by_others)
            raise killed()

    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        measured = await scene.world.hq.hear(JobProfile)
        scene.worker.before = end
        scene.world.train(1)
        reported = await scene.world.hq.hear(JobProfile)
        assert await scene.world.hq.hear(Left) == Left(scene.world.plan.job_id, 1, DropReason.MEMORY)
        assert (reported.extra_bytes(4) > measured.extra_bytes(4)) is raised
        assert (reported == measured) is not raised


async def test_the_agents_end_is_told_before_training_is_called_off(scene: Scene) -> None:
    scene.world.job = tiny_job(scene.world.root / "long", steps=1_000_000)
    async with scene.world.agent(worker_of=scene.employ):
        scene.world.prepare()
        await scene.world.hq.hear(JobProfile)
        scene.world.train(1)
        await scene.world.hq.until(lambda beat: beat.activity is AgentActivity.TRAINING and beat.done > 0)
    asked = scene.worker.asked
    assert asked.index("TrainRound") < asked.index("hurry") < asked.index("end of TrainRound")
