"""What a round of a thousand uploads takes of the coordinator's memory, against one of ten."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.results import publish, say
from benchmarks.round import phase_seconds
from ravan.manifest.phases import RoundPhase
from simulation.job import MILLION, Order
from simulation.scene import set_scene

WITHIN_S: Final = 7200.0
FEW: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """One round."""

    uploads: int
    peak_rss_mb: float
    """Of the coordinator from its start to the committed round."""
    unmasking_s: float
    uploading_s: float
    cpu_s: float


async def aggregate(folder: Path, sites: int, processes: int) -> Aggregation:
    """Run one round of a million parameters on a coordinator of its own."""
    order = Order(rounds=1, minimum_sites=sites, shape=MILLION, phase_deadline_s=WITHIN_S)
    # A thousand agents on the coordinator's own two cores may be late with signs of life.
    settings = {"FLEET_HEARTBEAT_INTERVAL_S": 60, "FLEET_SILENCE_S": 600}
    async with set_scene(folder, sites, order, processes=processes, settings=settings) as scene:
        say(f"  {sites} agents are enrolled ...")
        used = scene.headquarters.cpu_s()
        scene.fleet.start()
        job = await scene.until_completed(within_s=WITHIN_S)
        (done,) = job.rounds
        seconds = phase_seconds(done)
        found = Aggregation(
            uploads=len(done.completed),
            peak_rss_mb=scene.headquarters.peak_rss_mb(),
            unmasking_s=seconds[RoundPhase.UNMASKING],
            uploading_s=seconds[RoundPhase.UPLOADING],
            cpu_s=scene.headquarters.cpu_s() - used,
        )
    say(f"  {found.uploads} uploads: peak {found.peak_rss_mb:.0f} MB, unmasked in {found.unmasking_s:.1f} s")
    return found


def _folder(place: str, name: str) -> Path:
    folder = Path(place) / name
    folder.mkdir()
    return folder


@click.command()
@click.option("--sites", default=1000, show_default=True, help="Agents of the large round.")
@click.option("--processes", default=4, show_default=True, help="Processes that they run in.")
def main(sites: int, processes: int) -> None:
    """Compare the coordinator's memory with few and with many uploads."""
    say(f"Rounds of {FEW} and of {sites} uploads of {MILLION.head_parameters:,} parameters ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        few = asyncio.run(aggregate(_folder(place, "few"), FEW, 1))
        many = asyncio.run(aggregate(_folder(place, "many"), sites, processes))
    found = {
        f"rss_ratio_{many.uploads}_to_{FEW}": round(many.peak_rss_mb / few.peak_rss_mb, 3),
        f"rss_mb_{many.uploads}": round(many.peak_rss_mb, 1),
        f"rss_mb_{FEW}": round(few.peak_rss_mb, 1),
        "seconds_per_upload": round(many.unmasking_s / many.uploads, 5),
        "uploading_s": round(many.uploading_s, 1),
        "coordinator_cpu_s": round(many.cpu_s, 1),
    }
    bars = {"rss_ratio_1000_to_10": 1.1, "rss_mb_1000": 300}
    publish("bench-aggregate", {**found, "parameters": MILLION.head_parameters, "bars": bars})


if __name__ == "__main__":
    main()
