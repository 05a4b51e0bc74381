"""What a PC of 2 GB bears: whole agents in memory cages train a quarter of MiniLM's heads in a real round.

One job for each precision of the frozen base. Peaks are resident memory of the agent's processes as the kernel marks
them (`VmHWM`), read three times a second; an agent that needs more than its cage is ended or gives the round up, and
then the job does not complete.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import psutil

from benchmarks.results import publish, say
from coordinator.config import load_config
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.job import JobSettings
from deploy.demo.plant import Plant, SiteSettings
from deploy.demo.progress import Narrator
from deploy.demo.run import run_job
from deploy.demo.work_orders import installed_model, prepare_files
from ravan.manifest.plan import Precision
from ravan.wire.v1.operator_service_pb2 import Job
from ravan.wire.v1.round_pb2 import RoundOutcome

SITES: Final = ("b", "c", "d")
"""As many as a round needs; those with the most work orders."""
QUARTER: Final = 0.25
HEADS, MATRICES = 4, 12
ROUNDS: Final = 2
"""From the second on, heads that rest have moved as well."""


@dataclass
class Watcher:
    """Remember how much memory agents have taken."""

    plant: Plant
    highest: dict[str, int] = field(default_factory=dict)
    """By site, bytes."""

    def observe(self, *_: object) -> None:
        """Look at all processes of each agent."""
        for name, running in self.plant.sites.items():
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(running.process.pid)
                peak = sum(peak_bytes(each.pid) for each in (root, *root.children(recursive=True)))
                self.highest[name] = max(self.highest.get(name, 0), peak)

    def take(self) -> int:
        """Return the highest of all sites since the last look, and begin anew."""
        highest, self.highest = max(self.highest.values(), default=0), {}
        return highest


def peak_bytes(pid: int) -> int:
    """Return a process's peak of resident memory since its start, or since it last began to measure a step."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


async def measure(folder: Path, limit_mb: int, precisions: Sequence[Precision]) -> dict[str, object]:
    """Run a job of each precision and return the figures."""
    plant, narrator = Plant(folder, usual_ports=False), Narrator()
    found: dict[str, object] = {}
    try:
        plant.start_coordinator()
        prepare_files(folder / "data")
        async with OperatorClient(local_endpoint(load_config(plant.config), plant.config)) as client:
            await client.add_model(installed_model(), "minilm")
            for precision in precisions:
                _restart(plant, limit_mb)
                watcher = Watcher(plant)
                settings = JobSettings(
                    name=f"small-{precision}",
                    rounds=ROUNDS,
                    heads=HEADS,
                    minimum_sites=len(SITES),
                    precision=precision,
                    share=QUARTER,
                )
                job = await run_job(settings, plant, client, (narrator.observe, watcher.observe), narrator)
                narrator.forget_job()
                found[precision.value] = figures(job, watcher.take())
        cage = next(iter(plant.sites.values())).cage.kind
    finally:
        plant.stop()
    return {**found, "cage": cage}


def _restart(plant: Plant, limit_mb: int) -> None:
    """Start fresh agents, so that a job's peak is its own."""
    for name in SITES:
        if name in plant.sites:
            plant.kill_site(name)
        settings = SiteSettings(name=name, ram_limit_mb=limit_mb)
        plant.enrol(settings, plant.folder / "data" / f"site-{name}.csv")
        plant.start_site(settings)


def figures(job: Job, peak: int) -> dict[str, object]:
    """Return what a job took; raise RuntimeError unless every round trained a quarter at each site."""
    trained = {site.heads for each in job.rounds for site in each.sites}
    outcomes = {each.outcome for each in job.rounds}
    if outcomes != {RoundOutcome.ROUND_OUTCOME_COMMITTED} or trained != {round(QUARTER * HEADS * MATRICES)}:
        raise RuntimeError(f"Not every round trained a quarter: outcomes {outcomes}, heads {trained}.")
    costs = [site for each in job.rounds for site in each.sites]
    return {
        "peak_mb": round(peak / 1e6),
        "extra_peak_mb": round(max(site.extra_peak_bytes for site in costs) / 1e6, 1),
        "step_cpu_ms": round(1e3 * max(site.step_cpu_s for site in costs)),
        "accuracy": round(job.accuracy, 4),
    }


@click.command()
@click.option("--limit-mb", default=2048, show_default=True, help="Memory of each agent.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice([each.value for each in Precision]))
def main(limit_mb: int, precisions: tuple[str, ...]) -> None:
    """Measure rounds of agents with little memory."""
    say(f"Three agents held to {limit_mb} MB each ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        chosen = [Precision(each) for each in precisions] or list(Precision)
        found = asyncio.run(measure(Path(place), limit_mb, chosen))
    publish("bench-small", {**found, "limit_mb": limit_mb})


if __name__ == "__main__":
    main()
