"""A real agent on a PC whose processor other programs take: it stands aside, and trains on when they are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest
from agent_world import Round, World
from scripted_headquarters import Left
from tiny_jobs import tiny_job

from edge_agent.host.sensors import HostSensors
from edge_agent.host.shifts import DAYS
from ravan.manifest.phases import AgentActivity, DropReason
from ravan.manifest.profile import JobProfile

BURN = "while True: pass"


@pytest.fixture
def burners() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs that take every core, once they are started."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for each in started:
        each.kill()
        each.wait()


def load_the_machine(started: list[subprocess.Popen[bytes]]) -> None:
    for _ in range(2 * (os.cpu_count() or 1)):
        started.append(subprocess.Popen([sys.executable, "-c", BURN]))


async def test_training_pauses_while_other_programs_take_the_processor(
    world: World, burners: list[subprocess.Popen[bytes]]
) -> None:
    world.job = tiny_job(world.root / "long", steps=1_000_000)
    async with world.agent({"RAVAN_HOST_PAUSE_WHEN_BUSY": "0.4"}):
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        load_the_machine(burners)
        first = await world.hq.until(lambda beat: beat.activity is AgentActivity.PAUSED)
        again = await world.hq.until(lambda beat: beat.activity is AgentActivity.PAUSED)
        assert again.done == first.done
        assert again.round_number == 1


async def test_outside_its_hours_a_pc_begins_no_round_and_says_that_it_leaves(world: World) -> None:
    # The minute of the week that is farthest from now.
    day = DAYS[(datetime.now().weekday() + 3) % 7]
    config = world.config_path.read_text()
    world.config_path.write_text(config.replace("\n[host]\n", f'\n[host]\nshifts = ["{day} 12:00-12:01"]\n', 1))
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1))
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) == (1, DropReason.LEFT)
    assert current.payloads == {}


def test_the_agents_own_work_does_not_count_and_others_does(burners: list[subprocess.Popen[bytes]]) -> None:
    sensors = HostSensors()
    load_the_machine(burners)
    seen: list[float] = []
    while len(seen) < 200 and max(seen, default=0.0) < 0.6:
        subprocess.run([sys.executable, "-c", "sum(range(10 ** 6))"], check=True)
        seen.append(sensors.read().busy_share)
    assert 0.6 <= max(seen) <= 1.0
