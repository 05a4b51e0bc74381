"""A PC that was off for a week: what it fetches does not depend on what it has missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from agent_world import Round, World

from ravan.adapters.state import encode_state, initial_state
from ravan.ids import Digest
from ravan.manifest.profile import JobProfile


def put_version(world: World, number: int) -> Digest:
    """Store a version whose numbers are all its own."""
    moved = {block: values + np.float32(number) for block, values in initial_state(world.plan).items()}
    return world.hq.blobs.put(encode_state(world.plan, moved))


@pytest.mark.parametrize("missed", [0, 40])
async def test_it_fetches_the_newest_version_and_draws_its_bases_from_the_seed(world: World, missed: int) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        took_part = Round(world, *world.train(1))
        await took_part.run()
        took_part.finish()
    # Model files and the first version, once each; headquarters has no basis to give.
    model = [file.sha256 for file in world.plan.model_files]
    assert sorted(world.hq.fetched) == sorted([*model, took_part.assignment.state_digest])

    world.hq.withdraw()
    world.hq.fetched.clear()
    versions = [put_version(world, number) for number in range(2, missed + 3)]
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        assignment = replace(world.assignment(missed + 2), state_digest=versions[-1])
        back = Round(world, *world.train(missed + 2, assignment))
        await back.run()
        back.finish()
    assert world.hq.fetched == [versions[-1]]
    fetched_bytes = sum(world.hq.blobs.path(digest).stat().st_size for digest in world.hq.fetched)
    assert fetched_bytes == len(encode_state(world.plan, initial_state(world.plan)))
