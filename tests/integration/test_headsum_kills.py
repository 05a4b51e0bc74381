"""Real processes over mTLS: 12 agents with one killed a round, then 16 with one killed at each step of one round."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from safetensors.numpy import load_file
from sized_plant import SLOW, SizedPlant, site_names
from step_kills import PHASE_OF, Kill, Stage, Step

from coordinator.config import load_config
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.plant import Plant
from deploy.demo.recomputation import Finding
from deploy.demo.run import recompute
from ravan.wire.v1.operator_service_pb2 import Job, Round
from ravan.wire.v1.round_pb2 import DropReason, RoundOutcome

FEW, MANY = 12, 16
BRAKE = "s12"
VICTIMS = {Step.ADVERTISE: "s03", Step.SHARE: "s02", Step.UPLOAD: SLOW, Step.REVEAL: "s07"}
STEPS = tuple(Step)
WEIGHTED = {
    "secure_aggregation__profile": "weighted",
    "secure_aggregation__cell_threshold": 3,
    "secure_aggregation__cell_minimum": 3,
    "secure_aggregation__examples_per_weight": 16,
    "secure_aggregation__weight_limit": 4,
    "secure_aggregation__ring_bits": 16,
    "secure_aggregation__rotate": True,
    "secure_aggregation__suite": "chacha20",
}


@dataclass
class Course:
    """Three jobs on one plant, and what was seen on the way."""

    sums: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    findings: dict[str, Mapping[int, Finding]] = field(default_factory=dict)
    kills: dict[str, dict[int, dict[Step, Kill]]] = field(default_factory=dict)

    def round(self, job: str, number: int) -> Round:
        return self.jobs[job].rounds[number - 1]

    def facts(self, job: str, number: int) -> dict[str, Any]:
        tensors = load_file(self.sums / self.jobs[job].job_id / f"{number}.sums")
        facts: dict[str, Any] = json.loads(tensors["facts"].tobytes())
        return facts


async def run_few(sized: SizedPlant, course: Course) -> None:
    """Four rounds of 12 with one kill each, and one with all."""
    await sized.enrol(site_names(FEW))
    job = await sized.submit(job__name="few", job__rounds=5, round__minimum_sites=FEW)
    await sized.start(site_names(FEW))
    stage = Stage(plant=sized.plant, client=sized.client, job_id=job.job_id, brake=BRAKE)
    for number, step in enumerate(STEPS, start=1):
        await stage.perform(number, {step: VICTIMS[step]})
    await keep(sized, course, "few", job, stage.kills)


async def run_many(sized: SizedPlant, course: Course) -> None:
    """One round of 16 with a kill at each step, and one with all."""
    await sized.enrol(site_names(MANY)[FEW:])
    await sized.start(site_names(MANY)[FEW:])
    job = await sized.submit(job__name="many", job__rounds=2, round__minimum_sites=MANY)
    stage = Stage(plant=sized.plant, client=sized.client, job_id=job.job_id, brake=BRAKE)
    await stage.perform(1, VICTIMS)
    await keep(sized, course, "many", job, stage.kills)


async def run_weighted(sized: SizedPlant, course: Course) -> None:
    """Two rounds of 16 by the other settings of the protocol, with nobody killed."""
    job = await sized.submit(job__name="weighted", job__rounds=2, round__minimum_sites=MANY, **WEIGHTED)
    await keep(sized, course, "weighted", job, {})


async def keep(sized: SizedPlant, course: Course, name: str, job: Job, kills: dict[int, dict[Step, Kill]]) -> None:
    course.jobs[name] = await sized.await_end(job)
    course.findings[name] = await recompute(course.jobs[name], sized.plant, sized.client)
    course.kills[name] = kills


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def course(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Course]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HUB_OFFLINE", "1")
        # Who is stopped shall count as present for a minute, and who is killed as lost after three seconds.
        environment.setenv("RAVAN_FLEET_HEARTBEAT_INTERVAL_S", "20")
        environment.setenv("RAVAN_FLEET_SILENCE_S", "3")
        plant = Plant(tmp_path_factory.mktemp("plant"), usual_ports=False)
        seen = Course(plant.folder / "sums")
        try:
            await asyncio.to_thread(plant.start_coordinator)
            async with OperatorClient(local_endpoint(load_config(plant.config), plant.config)) as client:
                sized = SizedPlant(plant, client)
                await sized.add_model()
                for run in (run_few, run_many, run_weighted):
                    await run(sized, seen)
            yield seen
        finally:
            plant.stop()


pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1500)]

ONE_KILL = [("few", number, step) for number, step in enumerate(STEPS, start=1)]
FOUR_KILLS = [("many", 1, step) for step in STEPS]


@pytest.mark.parametrize(("job", "number", "step"), [*ONE_KILL, *FOUR_KILLS])
async def test_a_site_dies_at_the_step_that_was_meant(course: Course, job: str, number: int, step: Step) -> None:
    kill = course.kills[job][number][step]
    assert (kill.site, kill.seen, kill.phase) == (VICTIMS[step], step.value, PHASE_OF[step])
    if step is Step.UPLOAD:
        assert 0 < kill.done < kill.total
        assert uploaded(course.round(job, number), kill.site) == 0


@pytest.mark.parametrize(("job", "number"), [("few", 1), ("few", 2), ("few", 3), ("few", 4), ("few", 5), ("many", 1)])
async def test_the_round_misses_who_was_killed_where_it_was_killed_and_nobody_else(
    course: Course, job: str, number: int
) -> None:
    kills = course.kills[job].get(number, {})
    missed = {(drop.site, drop.phase, drop.reason) for drop in course.round(job, number).dropped}
    assert missed == {(kill.site, PHASE_OF[step], DropReason.DROP_REASON_DISCONNECTED) for step, kill in kills.items()}


@pytest.mark.parametrize(("job", "sites", "rounds"), [("few", FEW, 5), ("many", MANY, 2), ("weighted", MANY, 2)])
async def test_every_round_commits_the_exact_sum_of_all_but_those_killed_before_their_upload(
    course: Course, job: str, sites: int, rounds: int
) -> None:
    assert [r.outcome for r in course.jobs[job].rounds] == [RoundOutcome.ROUND_OUTCOME_COMMITTED] * rounds
    assert sorted(course.findings[job]) == list(range(1, rounds + 1))
    for number, finding in course.findings[job].items():
        kills = course.kills[job].get(number, {})
        lost = {kill.site for step, kill in kills.items() if step is not Step.REVEAL}
        assert set(course.round(job, number).completed) == set(site_names(sites)) - lost
        assert finding.exact
        assert finding.mean_error <= finding.mean_error_bound
        assert finding.bundles >= 3
        assert not course.round(job, number).withheld


@pytest.mark.parametrize(("job", "number"), [("few", 4), ("many", 1)])
async def test_an_update_whose_site_dies_before_it_reveals_is_in_the_sum(course: Course, job: str, number: int) -> None:
    facts = course.facts(job, number)
    (group,) = facts["groups"]
    assert VICTIMS[Step.REVEAL] in {facts["sites"][str(index)] for index in group["survivors"]}
    assert VICTIMS[Step.REVEAL] in course.round(job, number).completed
    assert uploaded(course.round(job, number), VICTIMS[Step.REVEAL]) > 0


async def test_every_killed_site_completes_the_next_round(course: Course) -> None:
    for job, kills in course.kills.items():
        for number, killed in kills.items():
            assert {kill.site for kill in killed.values()} <= set(course.round(job, number + 1).completed)


@pytest.mark.parametrize("job", ["few", "many", "weighted"])
async def test_sites_of_three_sizes_make_at_least_three_bundles(course: Course, job: str) -> None:
    for number in course.findings[job]:
        assert len({site.heads for site in course.round(job, number).sites}) >= 3
        (group,) = course.facts(job, number)["groups"]
        cohorts = {tuple(bundle["members"]) for bundle in group["bundles"]}
        assert len(cohorts) >= 3


async def test_the_weighted_job_ran_by_its_settings(course: Course) -> None:
    facts = course.facts("weighted", 1)
    (group,) = facts["groups"]
    heads = [block for bundle in group["bundles"][1:] for block in bundle["blocks"]]
    assert (facts["ring_bits"], facts["weight_limit"]) == (16, 4)
    assert heads
    assert all(block["signs"] for block in heads)


def uploaded(done: Round, site: str) -> int:
    return next(each.upload_bytes for each in done.sites if each.site == site)
