"""Conduct the demo: start the plant, run the job with its faults, recompute, compare with frozen heads."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.config import load_config
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.faults import Fault, PowerCut, PowerCuts, Saboteur
from deploy.demo.job import JobSettings, write_job
from deploy.demo.plant import Plant, SiteSettings
from deploy.demo.progress import Narrator
from deploy.demo.recomputation import Finding
from deploy.demo.report import Result, build_report
from deploy.demo.work_orders import installed_model, prepare_files
from ravan.wire.v1.operator_service_pb2 import Job, Site
from ravan.wire.v1.round_pb2 import JobState, RoundOutcome, RoundPhase
from ravan.wire.v1.site_service_pb2 import AgentActivity

SITES: Final = (
    SiteSettings(name="a", ram_limit_mb=640, upload_kib_per_s=24),
    SiteSettings(name="b", ram_limit_mb=1200),
    SiteSettings(name="c", ram_limit_mb=1200),
    SiteSettings(name="d", ram_limit_mb=1200),
    SiteSettings(name="e", ram_limit_mb=675),
)
FAULTS: Final = (
    Fault(site="a", first_round=3, activity=AgentActivity.AGENT_ACTIVITY_TRAINING),
    Fault(site="a", first_round=5, activity=AgentActivity.AGENT_ACTIVITY_UPLOADING),
)
POWER_CUTS: Final = (
    PowerCut(first_round=2, phase=RoundPhase.ROUND_PHASE_UPLOADING),
    PowerCut(first_round=6, phase=RoundPhase.ROUND_PHASE_TRAINING),
)
_ENDED: Final = (JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_STOPPED, JobState.JOB_STATE_FAILED)
_POLL_S: Final = 0.3

Observer = Callable[[Job, Sequence[Site]], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    folder: Path
    rounds: int
    heads: int
    kill_coordinator: bool = False
    """Whether the coordinator too loses power in the middle of rounds."""


class DemoFailedError(Exception):
    """The demo did not do what it promises."""


async def run_demo(options: Options) -> dict[str, Any]:
    """Run everything and return the report."""
    narrator = Narrator()
    plant = Plant(options.folder)
    try:
        url = plant.start_coordinator()
        narrator.say(f"coordinator ready; watch it at {url}/status and {url}/metrics")
        counts = prepare_files(options.folder / "data")
        narrator.say("work orders per file: " + ", ".join(f"{k} {v}" for k, v in sorted(counts.items())))
        await _start_sites(plant, narrator)
        endpoint = local_endpoint(load_config(plant.config), plant.config)
        async with OperatorClient(endpoint) as client:
            return await _run_jobs(options, plant, client, narrator, url)
    finally:
        plant.stop()


async def _start_sites(plant: Plant, narrator: Narrator) -> None:
    data = plant.folder / "data"

    async def start(settings: SiteSettings) -> None:
        await asyncio.to_thread(plant.enrol, settings, data / f"site-{settings.name}.csv")
        cage = plant.start_site(settings).cage
        narrator.say(f"site {settings.name} enrolled and started, held to {settings.ram_limit_mb} MB by {cage.kind}")

    await narrator.during(asyncio.gather(*map(start, SITES)), "enrolling the sites")


async def _run_jobs(
    options: Options, plant: Plant, client: OperatorClient, narrator: Narrator, url: str
) -> dict[str, Any]:
    await narrator.during(client.add_model(installed_model(), "minilm"), "taking in the base model")
    narrator.say("base model taken in")
    saboteur = Saboteur(plant, FAULTS, narrator.say)
    main = JobSettings(name="heads" if options.heads else "heads-off", rounds=options.rounds, heads=options.heads)
    cuts = PowerCuts(plant, POWER_CUTS if options.kill_coordinator else (), narrator)
    job = await run_job(main, plant, client, (narrator.observe, saboteur.observe, cuts.observe), narrator)
    accuracy_off = None
    if options.heads:
        narrator.forget_job()
        off = JobSettings(name="heads-off", rounds=options.rounds, heads=0)
        accuracy_off = (await run_job(off, plant, client, (narrator.observe,), narrator)).accuracy
    findings = await narrator.during(recompute(job, plant, client), "recomputing the sums")
    narrator.say(f"recomputed {len(findings)} rounds from the sites' own files")
    return build_report(
        Result(
            job=job,
            findings=findings,
            sites=SITES,
            cages={name: site.cage.kind for name, site in plant.sites.items()},
            seconds=narrator.seconds,
            accuracy_heads_off=accuracy_off,
            metrics_url=f"{url}/metrics",
        )
    )


async def run_job(
    settings: JobSettings,
    plant: Plant,
    client: OperatorClient,
    observers: Sequence[Observer],
    narrator: Narrator,
) -> Job:
    """Submit a job and observe it until it ends; raise DemoFailedError when it does not complete."""
    path = write_job(settings, plant.folder / "data" / "held-out.csv", plant.folder / f"{settings.name}.toml")
    submitted = await narrator.during(client.submit_job(path), f"the coordinator checks job {settings.name}")
    for note in submitted.notes:
        narrator.say(f"note: {note}")
    while True:
        job = await client.get_job(submitted.job_id)
        sites = await client.list_sites()
        for observe in observers:
            acting = observe(job, sites)
            if acting is not None:
                await acting
        if job.state in _ENDED:
            break
        await asyncio.sleep(_POLL_S)
    if job.state != JobState.JOB_STATE_COMPLETED:
        raise DemoFailedError(f"job {settings.name} ended as {JobState.Name(job.state)}: {job.message}")
    return job


async def recompute(job: Job, plant: Plant, client: OperatorClient) -> Mapping[int, Finding]:
    """Fetch the unmasked sums and have another program recompute them from what the sites kept."""
    folder = plant.folder / "sums" / job.job_id
    folder.mkdir(parents=True, exist_ok=True)
    for done in job.rounds:
        if done.outcome == RoundOutcome.ROUND_OUTCOME_COMMITTED:
            await client.download_blob(done.sums_digest, folder / f"{done.number}.sums")
    program = [sys.executable, "-m", "deploy.demo.recomputation", str(folder), str(plant.folder / "kept")]
    process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise DemoFailedError("the recomputation of the sums failed; its message stands above")
    return {int(number): Finding(**finding) for number, finding in json.loads(output).items()}
