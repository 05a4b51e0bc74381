"""The base model's memory goes back to the PC between rounds, and the next round has the model all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent_world import Round, World
from structlog.testing import capture_logs

from ravan.manifest.profile import JobProfile

AT_ONCE = {"RAVAN_AGENT_UNLOAD_AFTER_S": "1"}


def wait_for(event: str, times: int, lines: Sequence[Mapping[str, Any]]) -> None:
    while sum(line["event"] == event for line in lines) < times:
        time.sleep(0.05)


async def test_a_model_that_was_unloaded_is_there_for_the_next_round(world: World) -> None:
    with capture_logs() as lines:
        async with world.agent(AT_ONCE):
            world.prepare()
            await world.hq.hear(JobProfile)
            await asyncio.to_thread(wait_for, "unloaded the base model for want of work", 1, lines)
            current = Round(world, *world.train(1))
            await current.run()
            current.finish()
            await asyncio.to_thread(wait_for, "unloaded the base model for want of work", 2, lines)
            await Round(world, *world.train(2)).trained()
    assert sum(line["event"] == "trained" for line in lines) == 2
