"""How long the coordinator takes to be ready, and what it holds when it idles, after a hundred rounds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import click

from benchmarks.results import publish, say
from ravan.wire.v1.operator_service_pb2 import SiteState
from simulation.job import Order
from simulation.scene import Scene, set_scene

AGENTS: Final = 5
STARTS: Final = 5
IDLE_S: Final = 10.0
"""For the agents to prepare the job and for all to be still."""

WITHIN_S: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the coordinator, until it said that it was ready."""

    seconds: float
    cpu_s: float
    """Processor seconds, which a busy machine changes less."""


async def measure(folder: Path, rounds: int) -> dict[str, object]:
    """Make the history with real rounds, then start the coordinator again and again."""
    async with set_scene(folder, AGENTS, Order(rounds=rounds + 1, minimum_sites=AGENTS), processes=1) as scene:
        scene.fleet.start()
        for number in range(10, rounds + 10, 10):
            await scene.until_committed(min(number, rounds), within_s=WITHIN_S)
            say(f"  {min(number, rounds)} of {rounds} rounds of history")
        await scene.client.pause_job(scene.job_id)
        starts = [await _start_again(scene) for _ in range(STARTS)]
        await _until_attached(scene)
        await asyncio.sleep(IDLE_S)
        return {
            "ready_s": round(median(start.seconds for start in starts), 3),
            "idle_rss_mb": round(scene.headquarters.rss_mb(), 1),
            "help_s": round(median(_help_s() for _ in range(STARTS)), 3),
            "ready_worst_s": round(max(start.seconds for start in starts), 3),
            "ready_cpu_s": round(median(start.cpu_s for start in starts), 3),
            "history_rounds": len((await scene.client.get_job(scene.job_id)).rounds),
        }


async def _start_again(scene: Scene) -> Start:
    await scene.headquarters.stop()
    seconds = await scene.headquarters.start()
    start = Start(seconds=seconds, cpu_s=scene.headquarters.cpu_s())
    say(f"  ready after {start.seconds:.2f} s, {start.cpu_s:.2f} s of them on a processor")
    return start


async def _until_attached(scene: Scene) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await _online(scene) < AGENTS:  # noqa: ASYNC110 - another process's sites cannot be awaited
            await asyncio.sleep(0.5)


async def _online(scene: Scene) -> int:
    return sum(site.state == SiteState.SITE_STATE_ONLINE for site in await scene.client.list_sites())


def _help_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "coordinator", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


@click.command()
@click.option("--rounds", default=100, show_default=True, help="Rounds of history.")
def main(rounds: int) -> None:
    """Start a coordinator with a history, five times."""
    say(f"{AGENTS} agents make {rounds} rounds of history ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        found = asyncio.run(measure(Path(place), rounds))
    bars = {"ready_s": 1.0, "idle_rss_mb": 130, "help_s": 0.25}
    publish("bench-startup", {**found, "agents": AGENTS, "bars": bars})


if __name__ == "__main__":
    main()
