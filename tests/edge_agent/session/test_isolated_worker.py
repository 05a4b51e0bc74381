"""A real agent whose worker process ends in the midst of training: the agent lives on, and no bit changes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest
from agent_process import Ear, Process, lead, process
from agent_world import World
from scripted_headquarters import Left
from tiny_jobs import tiny_job

from deploy.demo.memory import MemoryCage, build_cage
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, DropReason
from ravan.manifest.profile import JobProfile

LONGEST_S = 280
CAGE_MB = 1000
SPARE_MB = 150
"""More than interpreter and page tables of the other program, less than what the worker holds."""


def worker_of(agent: Process) -> psutil.Process:
    """The one of the agent's processes that holds the model."""
    assert agent.running is not None
    children = psutil.Process(agent.running.pid).children()
    return max(children, key=lambda child: child.memory_info().rss)


def trains(beat: Heartbeat, number: int = 1) -> bool:
    return beat.activity is AgentActivity.TRAINING and beat.round_number == number and beat.done > 100


async def test_a_crash_of_a_library_costs_some_steps_and_no_bit(world: World) -> None:
    world.job = tiny_job(world.root / "long", steps=1500)
    ear = Ear(world.hq)
    world.hq.hear = ear.hear  # type: ignore[method-assign]
    async with asyncio.timeout(LONGEST_S), process(world) as agent:
        world.prepare()
        await ear.hear(JobProfile)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lead(world, 1, ear))
            await world.hq.until(trains)
            worker_of(agent).send_signal(signal.SIGSEGV)
        assert agent.running is not None
        assert agent.running.returncode is None
    assert len(ear.processes) == 1
    log = (world.root / "agent.log").read_text()
    assert "the worker process has died; it is started again" in log
    assert "training goes on" in log


async def test_where_memory_runs_out_the_worker_goes_and_the_next_round_asks_for_less(world: World) -> None:
    world.job = tiny_job(world.root / "endless", steps=1_000_000)
    async with asyncio.timeout(LONGEST_S), process(world) as agent:
        world.prepare()
        measured = await world.hq.hear(JobProfile)
        world.train(1)
        await world.hq.until(trains)
        killed = worker_of(agent)
        held = killed.memory_info().rss
        killed.kill()
        corrected = await world.hq.hear(JobProfile)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
        assert corrected.ram_loaded_bytes == measured.ram_loaded_bytes
        assert corrected.extra_bytes(4) >= 1.2 * measured.extra_bytes(4)
        # With the worker went all that the libraries take; the next round starts another one.
        assert agent.running is not None
        assert psutil.Process(agent.running.pid).memory_info().rss < held
        world.train(2)
        await world.hq.until(lambda beat: trains(beat, 2))
        assert worker_of(agent).pid != killed.pid


HOG = """
import sys, time
held = []
for _ in range(int(sys.argv[1])):
    held.append(bytearray(b"x" * (1 << 20)))
print("holds it", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cage() -> Iterator[MemoryCage]:
    """A gigabyte for the agent and whatever else runs in it."""
    made = build_cage("worker", CAGE_MB)
    if made.kind != "cgroup":
        pytest.skip("this machine lets nobody make a control group of memory")
    yield made
    made.close()


async def test_the_kernel_takes_the_worker_and_no_program_of_the_pc(world: World, cage: MemoryCage) -> None:
    world.job = tiny_job(world.root / "endless", steps=1_000_000)
    async with asyncio.timeout(LONGEST_S), process(world, cage.wrap) as agent:
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        await world.hq.until(trains)
        assert agent.running is not None
        # With the agent alone it fits; with the worker as well it does not.
        room_mb = CAGE_MB - (psutil.Process(agent.running.pid).memory_info().rss >> 20)
        command = cage.wrap([sys.executable, "-c", HOG, str(room_mb - SPARE_MB)])
        hog = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert hog.stdout is not None
            assert await hog.stdout.readline() == b"holds it\n"
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
            assert (hog.returncode, agent.running.returncode) == (None, None)
        finally:
            hog.kill()
            await hog.wait()
