"""How a fleet comes back to a coordinator that was killed under it: all agents have lost their line together."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.results import publish, say
from coordinator.operator_client import OperatorClient
from simulation.fleet import Fleet
from simulation.headquarters import Headquarters

WITHIN_S: Final = 300.0
SETTLE_S: Final = 10.0
"""Between the last agent's return and the next crash."""
_LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What one crash led to."""

    down_s: float
    """From the kill until the coordinator was ready again."""
    all_back_s: float
    """From then until the last agent was greeted."""
    peak_per_s: int
    """Most agents greeted within any second."""
    slowest_beat_ms: float
    """Longest wait for a heartbeat's acknowledgement in that time."""
    coordinator_cpu_s: float


async def measure(folder: Path, sites: int, pauses_s: Sequence[float]) -> list[Return]:
    """Kill the coordinator once for each pause, which is how long it stays away before it is started again."""
    headquarters = Headquarters(folder / "headquarters", {})
    await headquarters.found()
    await headquarters.start()
    try:
        async with Fleet(folder / "sites", sites) as fleet:
            async with OperatorClient(headquarters.endpoint()) as client:
                await fleet.enrol(client)
            say(f"  {sites} agents are enrolled; now they connect for the first time ...")
            fleet.start()
            await _until_back(fleet, 0.0, sites)
            found = []
            for pause_s in pauses_s:
                await asyncio.sleep(SETTLE_S)
                found.append(await _crash(headquarters, fleet, pause_s))
                say(f"  away for {found[-1].down_s:.1f} s: {found[-1]}")
            return found
    finally:
        await headquarters.stop()


async def _crash(headquarters: Headquarters, fleet: Fleet, pause_s: float) -> Return:
    killed = time.time()
    await headquarters.kill()
    await asyncio.sleep(pause_s)
    await headquarters.start()
    ready = time.time()
    back = await _until_back(fleet, killed, len(fleet.sites))
    beats, _ = await fleet.report()
    return Return(
        down_s=round(ready - killed, 2),
        all_back_s=round(max(0.0, back[-1] - ready), 2),
        peak_per_s=most_in_a_second(back),
        slowest_beat_ms=round(1e3 * max((each.seconds for each in beats if each.at >= ready), default=0.0), 1),
        coordinator_cpu_s=round(headquarters.cpu_s(), 2),
    )


async def _until_back(fleet: Fleet, since: float, sites: int) -> list[float]:
    """Return when each agent was greeted."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            back = [at for at in await fleet.greetings() if at > since]
            if len(back) >= sites:
                return back
            await asyncio.sleep(_LOOK_EVERY_S)


def most_in_a_second(moments: Sequence[float]) -> int:
    """Return the most of these moments, which are in order, that lie within one second."""
    most = start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most


@click.command()
@click.option("--sites", default=1000, show_default=True, help="Agents, in two processes.")
@click.option(
    "--away", "pauses_s", default=(0.0, 20.0), show_default=True, multiple=True, help="Seconds, for each crash."
)
def main(sites: int, pauses_s: tuple[float, ...]) -> None:
    """Measure the return of a fleet."""
    say(f"{sites} agents whose coordinator is killed ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        found = asyncio.run(measure(Path(place), sites, pauses_s))
    publish("bench-return", {"sites": sites, "returns": [asdict(each) for each in found]})


if __name__ == "__main__":
    main()
