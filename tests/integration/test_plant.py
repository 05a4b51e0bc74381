"""Real processes over mTLS, real model, real work orders: a full site dies, another one's memory is halved."""

import socket
from collections.abc import AsyncIterator, Sequence
from enum import Enum

import psutil
import pytest
import pytest_asyncio

from coordinator.config import load_config
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.faults import Fault, Saboteur
from deploy.demo.job import JobSettings
from deploy.demo.plant import Plant, SiteSettings
from deploy.demo.progress import Narrator
from deploy.demo.recomputation import Finding
from deploy.demo.run import SITES, recompute, run_job
from deploy.demo.work_orders import installed_model, prepare_files
from ravan.ids import BlockId
from ravan.wire.v1.operator_service_pb2 import Job, Round, Site
from ravan.wire.v1.round_pb2 import DropReason, RoundOutcome, RoundPhase
from ravan.wire.v1.site_service_pb2 import AgentActivity

FULL_SITE, SHRUNK_SITE = "c", "d"
HEADS, MATRICES = 4, 12
ROOMY_MB = 1300
"""Limit of the site that is shrunk: half of it holds the model and some heads, but not all."""


class Shrinking(Enum):
    """How far halving the limit is."""

    WAITING = "no round with all sites yet"
    PAUSING = "the running round is finished first"
    SHRUNK = "the coordinator has not heard of it"
    RESUMED = "rounds go on"


class Course:
    """One job on the demo's plant, and what was seen on the way."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.saboteur = Saboteur(
            plant,
            [Fault(site=FULL_SITE, first_round=1, activity=AgentActivity.AGENT_ACTIVITY_TRAINING)],
            print,
        )
        self.shrinking = Shrinking.WAITING
        self.listening: dict[str, list[int]] = {}
        self.job: Job | None = None
        self.findings: dict[int, Finding] = {}

    def observe(self, job: Job, sites: Sequence[Site]) -> None:
        """Kill, then halve a limit between two rounds once one has been committed with all sites."""
        self.saboteur.observe(job, sites)
        running = self.plant.sites[SHRUNK_SITE]
        half_mb = ROOMY_MB // 2
        known = next(site.hardware.ram_limit_bytes for site in sites if site.name == SHRUNK_SITE)
        match self.shrinking:
            case Shrinking.WAITING if any(len(r.completed) == len(SITES) for r in job.rounds):
                self.plant.command("job", "pause", job.job_id)
                self.shrinking = Shrinking.PAUSING
            case Shrinking.PAUSING if job.rounds[-1].phase == RoundPhase.ROUND_PHASE_ENDED:
                running.cage.resize(half_mb, running.process.pid)
                self.shrinking = Shrinking.SHRUNK
            case Shrinking.SHRUNK if known == half_mb << 20:
                self.plant.command("job", "resume", job.job_id)
                self.shrinking = Shrinking.RESUMED
            case _:
                pass
        if not self.listening:
            self.listening = {name: inbound_ports(site.process.pid) for name, site in self.plant.sites.items()}

    def round(self, number: int) -> Round:
        assert self.job is not None
        return self.job.rounds[number - 1]


def inbound_ports(pid: int) -> list[int]:
    """Return the ports that a process or its children listen on."""
    root = psutil.Process(pid)
    connections = [c for p in (root, *root.children(recursive=True)) for c in p.net_connections(kind="inet")]
    return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN or c.type == socket.SOCK_DGRAM]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def course(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Course]:
    plant = Plant(tmp_path_factory.mktemp("plant"), usual_ports=False)
    seen = Course(plant)
    try:
        plant.start_coordinator()
        prepare_files(plant.folder / "data")
        for settings in SITES:
            limit_mb = ROOMY_MB if settings.name == SHRUNK_SITE else settings.ram_limit_mb
            quick = SiteSettings(name=settings.name, ram_limit_mb=limit_mb)
            plant.enrol(quick, plant.folder / "data" / f"site-{settings.name}.csv")
            plant.start_site(quick)
        async with OperatorClient(local_endpoint(load_config(plant.config), plant.config)) as client:
            await client.add_model(installed_model(), "minilm")
            settings_of_job = JobSettings(name="trial", rounds=6, heads=HEADS, steps=4)
            seen.job = await run_job(settings_of_job, plant, client, (seen.observe,), Narrator())
            seen.findings = dict(await recompute(seen.job, plant, client))
        yield seen
    finally:
        plant.stop()


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


async def test_every_committed_round_is_exact(course: Course) -> None:
    assert course.job is not None
    assert all(r.outcome == RoundOutcome.ROUND_OUTCOME_COMMITTED for r in course.job.rounds)
    assert sorted(course.findings) == [r.number for r in course.job.rounds]
    for finding in course.findings.values():
        assert finding.exact
        assert finding.mean_error <= finding.mean_error_bound


async def test_a_full_site_killed_in_training_withholds_the_lowest_heads_and_nothing_else(course: Course) -> None:
    ((site, number),) = course.saboteur.carried_out
    hit = course.round(number)
    (drop,) = hit.dropped
    assert (drop.site, drop.phase, drop.reason) == (
        site,
        RoundPhase.ROUND_PHASE_TRAINING,
        DropReason.DROP_REASON_DISCONNECTED,
    )
    withheld = {BlockId.unpack(packed) for packed in hit.withheld}
    lowest = {block.matrix for block in withheld}
    assert withheld
    assert lowest == set(range(len(lowest)))
    survivors = {BlockId.unpack(c.block_id): c.survivors for c in hit.cohorts}
    assert len(survivors) == HEADS * MATRICES
    assert {block for block, count in survivors.items() if count == 0} == withheld
    assert all(count >= 3 for block, count in survivors.items() if block not in withheld)


async def test_the_killed_site_completes_a_later_round(course: Course) -> None:
    assert course.job is not None
    ((site, number),) = course.saboteur.carried_out
    assert any(site in r.completed for r in course.job.rounds if r.number > number)


async def test_sites_of_unequal_memory_get_unequal_allocations(course: Course) -> None:
    heads = {s.site: s.heads for s in course.round(1).sites}
    assert len(set(heads.values())) >= 3
    assert sum(count == HEADS * MATRICES for count in heads.values()) == 3


async def test_halving_a_limit_of_a_running_site_shrinks_its_next_allocation(course: Course) -> None:
    assert course.shrinking is Shrinking.RESUMED
    assert course.job is not None
    before = next(s for s in course.round(1).sites if s.site == SHRUNK_SITE)
    after = next(s for s in course.job.rounds[-1].sites if s.site == SHRUNK_SITE)
    assert after.ram_limit_bytes == before.ram_limit_bytes // 2
    assert after.heads < before.heads


async def test_no_agent_listens_on_any_port(course: Course) -> None:
    assert course.listening == {settings.name: [] for settings in SITES}
