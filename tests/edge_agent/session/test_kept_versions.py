"""A real session keeps what a job has made, and a later process needs no second look at the plan."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_world import World
from scripted_headquarters import Attached, JobProfile

from edge_agent.serving.shelf import MODELS_FOLDER, ModelShelf
from ravan.adapters.state import encode_state, initial_state
from ravan.errors import StateError
from ravan.manifest.instructions import JobEnded
from ravan.manifest.phases import JobState


async def until_kept(shelf: ModelShelf, round_number: int) -> bytes:
    async with asyncio.timeout(60):
        while True:
            try:
                model = await asyncio.to_thread(shelf.find, "excavators")
            except StateError:
                pass
            else:
                if model.round_number == round_number:
                    return model.read_state()
            await asyncio.sleep(0.05)


async def test_the_newest_version_is_kept_when_the_job_ends_also_by_a_process_that_never_prepared_it(
    world: World,
) -> None:
    shelf = ModelShelf(world.config_path.parent / "state" / MODELS_FOLDER)
    version = encode_state(world.plan, {block: array + 1 for block, array in initial_state(world.plan).items()})
    digest = world.hq.blobs.put(version)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
    world.hq.withdraw()
    end = JobEnded(job_id=world.plan.job_id, state=JobState.COMPLETED, state_digest=digest, round_number=7)
    async with world.agent():
        await world.hq.hear(Attached)
        world.hq.tell(end)
        assert await until_kept(shelf, 7) == version
    assert shelf.find("excavators").plan == world.plan
    assert not _others_may_read(shelf.find("excavators").path)


def _others_may_read(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)
