"""Real processes, real model: a backup under a running job, more rounds, a crash, a restore, and the same agents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from coordinator.aggregation.sums import read_sums
from coordinator.config import load_config
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.job import JobSettings, write_job
from deploy.demo.plant import Plant, SiteSettings
from deploy.demo.recomputation import Finding
from deploy.demo.run import recompute
from deploy.demo.work_orders import installed_model, prepare_files
from ravan.errors import ErrorReason, RavanError
from ravan.ids import RunId
from ravan.wire.v1.operator_service_pb2 import Job
from ravan.wire.v1.round_pb2 import JobState, RoundOutcome

SITES = tuple(SiteSettings(name=name, ram_limit_mb=1300) for name in "abcd")
ROUNDS, BEFORE_BACKUP, BEFORE_CRASH = 4, 1, 3


class Course:
    """One job, set back in the middle."""

    def __init__(self, plant: Plant, client: OperatorClient) -> None:
        self.plant, self.client = plant, client
        self.backup = plant.folder / "backup.tar"
        self.said = ""
        self.lost: Job | None = None
        """The job as the crash left it."""
        self.job: Job | None = None
        self.findings: Mapping[int, Finding] = {}
        self.runs: dict[int, RunId] = {}
        """Run that each round's sums belong to."""

    async def run(self) -> None:
        settings = JobSettings(name="trial", rounds=ROUNDS, heads=4, steps=4)
        path = write_job(settings, self.plant.folder / "data" / "held-out.csv", self.plant.folder / "trial.toml")
        submitted = await self.client.submit_job(path)
        job = await self.show(submitted.job_id)
        while job.state not in (JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_FAILED):
            await asyncio.to_thread(self.interfere, job)
            await asyncio.sleep(0.3)
            job = await self.show(submitted.job_id)
        self.job = job
        self.findings = await recompute(job, self.plant, self.client)
        for number in self.findings:
            sums = self.plant.folder / "sums" / job.job_id / f"{number}.sums"
            self.runs[number] = read_sums(sums.read_bytes()).run_id

    async def show(self, job_id: str) -> Job:
        while True:
            try:
                return await self.client.get_job(job_id)
            except RavanError as error:
                # the connection of before the crash
                if error.reason is not ErrorReason.UNREACHABLE:
                    raise
                await asyncio.sleep(0.3)

    def interfere(self, job: Job) -> None:
        committed = sum(each.outcome == RoundOutcome.ROUND_OUTCOME_COMMITTED for each in job.rounds)
        if committed >= BEFORE_BACKUP and not self.backup.exists():
            self.plant.command("db", "backup", self.backup)
        elif committed >= BEFORE_CRASH and self.lost is None and not job.rounds[-1].outcome:
            self.plant.kill_coordinator()
            self.lost = job
            self.said = self.plant.command("db", "restore", self.backup, "--replace")
            self.plant.start_coordinator()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def course(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Course]:
    plant = Plant(tmp_path_factory.mktemp("plant"), usual_ports=False)
    try:
        plant.start_coordinator()
        prepare_files(plant.folder / "data")
        for settings in SITES:
            plant.enrol(settings, plant.folder / "data" / f"site-{settings.name}.csv")
            plant.start_site(settings)
        async with OperatorClient(local_endpoint(load_config(plant.config), plant.config)) as client:
            await client.add_model(installed_model(), "minilm")
            seen = Course(plant, client)
            await seen.run()
        yield seen
    finally:
        plant.stop()


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]


async def test_the_job_ends_with_the_same_agents_and_every_round_is_exact(course: Course) -> None:
    assert course.job is not None
    assert course.job.state == JobState.JOB_STATE_COMPLETED
    assert all(site.process.poll() is None for site in course.plant.sites.values())
    assert len(course.findings) == ROUNDS
    assert all(finding.exact for finding in course.findings.values())


async def test_rounds_before_the_backup_stay_and_later_ones_belong_to_a_new_run(course: Course) -> None:
    assert "Under a new run id: trial" in course.said
    first, *_, last = (course.runs[number] for number in sorted(course.runs))
    assert first != last
    rounds_of = {run: [number for number in sorted(course.runs) if course.runs[number] == run] for run in (first, last)}
    assert rounds_of[first] == list(range(1, len(rounds_of[first]) + 1))
    assert BEFORE_BACKUP <= len(rounds_of[first]) < BEFORE_CRASH
    assert rounds_of[first] + rounds_of[last] == sorted(course.runs)


async def test_what_a_site_gave_after_the_backup_is_in_no_sum_and_is_never_given_again(course: Course) -> None:
    assert course.job is not None
    assert course.lost is not None
    forgotten = {each.sums_digest for each in course.lost.rounds if each.sums_digest}
    kept = {each.sums_digest for each in course.job.rounds if each.sums_digest}
    assert forgotten - kept
    for settings in SITES:
        ledger = json.loads((course.plant.site_folder(settings.name) / "state" / "rounds.json").read_text())
        runs = {RunId(bytes.fromhex(run)): highest for run, highest in ledger.items()}
        assert set(runs) == set(course.runs.values())
        # the old run ended where the coordinator died: in the round that ran, unless the site had not heard of it yet
        assert course.lost.rounds[-1].number - 1 <= runs[first_of(course)] <= course.lost.rounds[-1].number


async def test_nothing_is_left_of_the_uploads(course: Course) -> None:
    staging = course.plant.coordinator_folder / "staging"
    assert list(staging.iterdir()) == []


def first_of(course: Course) -> RunId:
    return course.runs[min(course.runs)]
