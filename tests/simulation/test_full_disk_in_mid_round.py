"""A real coordinator whose real disk runs full in mid-round: it pauses, says so, and goes on with the same round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounted_disk import fill, mounted_disk

from ravan.codec import enums
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.wire.v1.operator_service_pb2 import Job
from simulation.job import Order
from simulation.scene import Scene, set_scene
from simulation.steps import Step

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SITES = 4
LONGEST_S = 300.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "headquarters", "48m") as place:
        yield place


async def until(scene: Scene, is_so: Callable[[Job], bool]) -> Job:
    async with asyncio.timeout(LONGEST_S):
        while not is_so(job := await scene.client.get_job(scene.job_id)):  # noqa: ASYNC110 - another process's job
            await asyncio.sleep(0.2)
    return job


async def test_a_round_waits_on_a_full_disk_and_goes_on_with_everybody(tmp_path: Path, disk: Path) -> None:
    settings = {"LIMITS_DISK_RESERVE_MB": 0, "FLEET_SILENCE_S": 300}
    order = Order(rounds=1, minimum_sites=SITES, phase_deadline_s=LONGEST_S)
    async with set_scene(tmp_path, SITES, order, processes=1, settings=settings) as scene:
        brake = scene.fleet.sites[0]
        scene.fleet.hold(brake, Step.CONFIRM)
        scene.fleet.start()
        await scene.fleet.until_held(brake, Step.CONFIRM)
        filler = await asyncio.to_thread(fill, disk)
        scene.fleet.release(brake, Step.CONFIRM)
        paused = await until(scene, lambda job: enums.JOB_STATE.from_wire(job.state) is JobState.PAUSED)
        assert "is full" in paused.message
        assert "Then `job resume`." in paused.message
        assert [each.number for each in paused.rounds] == [1]
        await asyncio.to_thread(filler.unlink)
        await scene.client.resume_job(scene.job_id)
        job = await scene.until_completed(within_s=LONGEST_S)
        (counted,) = await scene.count(job)
        assert [enums.ROUND_OUTCOME.from_wire(each.outcome) for each in job.rounds] == [RoundOutcome.COMMITTED]
        assert (counted.counted, counted.faults) == (frozenset(scene.fleet.sites), ())
        # Nobody trained twice.
        assert scene.fleet.updates == dict.fromkeys(scene.fleet.sites, 1)
        assert "Traceback" not in scene.headquarters.log.read_text()
