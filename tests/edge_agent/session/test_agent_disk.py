"""The agent's share of the disk, in a real session: jobs that do not fit are left, and versions do not pile up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from agent_world import Round, World
from scripted_headquarters import Left

from edge_agent.session.round_training import round_files_bytes
from ravan.adapters.state import initial_state, state_digest
from ravan.manifest.instructions import JobEnded
from ravan.manifest.phases import DropReason, JobState, RoundOutcome
from ravan.manifest.profile import HardwareProfile, JobProfile

ONE_MIB = {"RAVAN_AGENT_DISK_LIMIT_MB": "1"}


def wait_until_gone(path: Path) -> None:
    while path.exists():
        time.sleep(0.05)


async def test_a_job_whose_model_does_not_fit_the_share_is_left(world: World) -> None:
    state = world.config_path.parent / "state"
    state.mkdir()
    (state / "large").write_bytes(bytes((1 << 20) - 1000))
    async with world.agent(ONE_MIB):
        assert (await world.hq.hear(HardwareProfile)).disk_free_bytes <= 1000
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DISK)


async def test_a_round_whose_files_do_not_fit_the_share_is_left_before_it_is_trained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent(ONE_MIB):
        world.prepare()
        await world.hq.hear(JobProfile)
        with monkeypatch.context() as large:
            large.setattr("edge_agent.session.round_desk.round_files_bytes", lambda *_: 1 << 20)
            world.train(1)
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.DISK)
        await Round(world, *world.train(2)).trained()


def test_a_rounds_files_are_its_checkpoint_its_update_and_its_masked_payload(world: World) -> None:
    assignment = world.assignment()
    own = {block.block_id: block.length for block in assignment.blocks if block.block_id in assignment.blocks_of(0)}
    parameters = sum(own.values())
    assert 0 < parameters < sum(block.length for block in assignment.blocks)
    # float32 core and two averages of it, the update in float32, and 24 bits of the ring
    assert round_files_bytes(assignment, 0) == parameters * (3 * 4 + 4 + 3)


async def test_the_version_goes_with_its_job_and_the_model_stays_for_a_while(world: World) -> None:
    blobs = world.config_path.parent / "cache" / "blobs"
    version = blobs / state_digest(world.plan, initial_state(world.plan)).hex()
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1))
        await current.run()
        assert version.exists()
        current.finish(outcome=RoundOutcome.TOO_FEW_SITES)
        world.hq.tell(JobEnded(job_id=world.plan.job_id, state=JobState.STOPPED))
        await asyncio.to_thread(wait_until_gone, version)
    assert {path.name for path in blobs.iterdir()} == {file.sha256.hex() for file in world.plan.model_files}
