"""A real coordinator under load and killed: every update is in the model exactly once. See also `make simulate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravan.manifest.phases import RoundOutcome
from simulation.course import Course, run_course
from simulation.job import Order
from simulation.kills import STATES, Killer
from simulation.scene import set_scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# More than 128 finishers mask in groups.
COURSES = [Course(sites=150, rounds=3, crashes=1, drop_out=0.1, seed=1)]


@pytest.mark.parametrize("course", COURSES, ids=str)
async def test_every_update_is_counted_exactly_once_whoever_drops_out_and_whenever_the_coordinator_dies(
    tmp_path: Path, course: Course
) -> None:
    story = await run_course(tmp_path, course)
    assert story.crashes == course.crashes
    assert [each.outcome for each in story.rounds] == [RoundOutcome.COMMITTED] * course.rounds
    for each in story.rounds:
        assert each.faults == ()
        assert each.lost == frozenset()
        assert each.counted == each.completed
    assert any(each.cut for each in story.rounds)


async def test_a_coordinator_that_is_killed_in_any_state_of_a_round_loses_nothing(tmp_path: Path) -> None:
    sites = 5
    async with set_scene(tmp_path, sites, Order(rounds=1000, minimum_sites=sites), processes=1) as scene:
        scene.fleet.start()
        killer = Killer(scene)
        assert [(await killer.kill_in(state)).state for state in STATES] == list(STATES)
        job = await scene.finish()
        counted = await scene.count(job)
    everyone = frozenset(scene.fleet.sites)
    assert [(each.counted, each.faults) for each in counted] == [(everyone, ())] * len(job.rounds)
    assert scene.fleet.updates == dict.fromkeys(scene.fleet.sites, len(job.rounds))
