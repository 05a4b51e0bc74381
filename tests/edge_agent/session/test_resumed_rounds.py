"""An agent that is killed in mid-round, as by a power failure: it goes on with the same bits, or leaves."""

from __future__ import annotations

import asyncio
import random

import pytest
from agent_process import Ear, RoundLeftError, lead, prepare_again, process
from agent_world import World
from scripted_headquarters import Left
from tiny_jobs import tiny_job

from ravan.manifest.phases import AgentActivity, DropReason
from ravan.manifest.profile import JobProfile

KILLS = 20
LONGEST_S = 280


@pytest.fixture
def long_world(world: World) -> World:
    """A job whose rounds train for several seconds: many of the heartbeats, of which there is one a second."""
    world.job = tiny_job(world.root / "long", steps=2000)
    return world


async def test_a_round_goes_on_in_another_process_from_where_it_was(long_world: World) -> None:
    world, ear = long_world, Ear(long_world.hq)
    world.hq.hear = ear.hear  # type: ignore[method-assign]
    async with asyncio.timeout(LONGEST_S), process(world) as agent:
        world.prepare()
        await ear.hear(JobProfile)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lead(world, 1, ear))
            await world.hq.until(lambda beat: beat.activity is AgentActivity.TRAINING and beat.done > 0)
            await agent.kill()
            await agent.start()
    assert len(ear.processes) == 1
    log = (world.root / "agent.log").read_text()
    assert "training goes on" in log
    assert not (world.config_path.parent / "state" / "rounds").exists()


async def test_without_its_notes_another_process_leaves_the_round(long_world: World) -> None:
    world = long_world
    async with asyncio.timeout(LONGEST_S), process(world) as agent:
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        await world.hq.until(lambda beat: beat.activity is AgentActivity.TRAINING and beat.done > 0)
        await agent.kill()
        [notes] = (world.config_path.parent / "state" / "rounds").glob("*/round.json")
        notes.write_bytes(notes.read_bytes()[:-9])
        await agent.start()
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) in {(1, DropReason.RESTARTED), (1, DropReason.REFUSED)}
    assert not notes.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_kills_at_twenty_random_moments_change_no_bit(long_world: World) -> None:
    world, ear, moments = long_world, Ear(long_world.hq), random.Random(7)  # noqa: S311 - moments, not secrets
    world.hq.hear = ear.hear  # type: ignore[method-assign]
    kills = finished = left = 0
    rounds = world.config_path.parent / "state" / "rounds"

    async def lead_unless_left(number: int) -> bool:
        try:
            await lead(world, number, ear, pause_s=1.0)
        except RoundLeftError:
            await prepare_again(world, ear)
            return False
        return True

    async with asyncio.timeout(850), process(world) as agent:
        world.prepare()
        await ear.hear(JobProfile)
        number = 0
        while kills < KILLS:
            number += 1
            ear.unnoted = False
            async with asyncio.TaskGroup() as tasks:
                led = tasks.create_task(lead_unless_left(number))
                while not led.done() and kills < KILLS:
                    # Some kills come while it starts, most while it is in the round.
                    ready = asyncio.create_task(ear.ready.wait())
                    if moments.random() < 0.75:
                        await asyncio.wait([led, ready], return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait([led], timeout=moments.uniform(0.0, 8.0))
                    ready.cancel()
                    if not led.done():
                        await agent.kill()
                        ear.unnoted = not list(rounds.glob(f"*-{number}/round.json"))
                        ear.ready.clear()
                        await agent.start()
                        kills += 1
            finished, left = finished + led.result(), left + (not led.result())
    assert ear.repeated > 0
    assert finished > left
    print(f"{kills} kills: {finished} rounds finished, {left} left unbegun, {ear.repeated} messages said again")
