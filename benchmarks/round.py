"""What a round costs beside training: everything is real but the training, which takes no time.

Agents run the product's own session in several processes, over mTLS on loopback. A tenth of them share their keys and
never upload, which is what costs the coordinator most.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import click

from benchmarks.results import publish, say
from ravan.codec import enums
from ravan.manifest.phases import RoundPhase
from ravan.wire.v1.operator_service_pb2 import Job, Round
from ravan.wire.v1.round_pb2 import RoundOutcome
from simulation.faults import DropOuts
from simulation.fleet import Beat
from simulation.job import MILLION, Order
from simulation.scene import Scene, set_scene
from simulation.steps import Step

WITHIN_S: Final = 1800.0
DROP_OUT: Final = 0.1
_SHARED_AND_GONE: Final = (Step.UPLOAD,)


async def measure(folder: Path, sites: int, rounds: int) -> dict[str, object]:
    """Run the rounds and return the figures."""
    order = Order(rounds=rounds, minimum_sites=sites, shape=MILLION, phase_deadline_s=600.0)
    drop_outs = DropOuts(rate=DROP_OUT, steps=_SHARED_AND_GONE)
    # A heartbeat a second from each agent, so that even a short phase sees many.
    settings = {"FLEET_HEARTBEAT_INTERVAL_S": 1}
    async with set_scene(folder, sites, order, drop_outs=drop_outs, settings=settings) as scene:
        say(f"  {sites} agents are enrolled; now {rounds} rounds of {order.shape.head_parameters:,} parameters ...")
        used = scene.headquarters.cpu_s()
        scene.fleet.start()
        job = await _follow(scene, rounds)
        used = scene.headquarters.cpu_s() - used
        beats, agents_cpu_s = await scene.fleet.report()
        faults = [fault for each in await scene.count(job) for fault in each.faults]
        peak = scene.headquarters.peak_rss_mb()
    for fault in faults:
        say(f"  {fault}")
    return {
        **figures(job, beats),
        "coordinator_cpu_s": round(used / len(job.rounds), 2),
        "agents_cpu_s": round(agents_cpu_s / len(job.rounds), 2),
        "peak_rss_mb": round(peak),
    }


async def _follow(scene: Scene, rounds: int) -> Job:
    for number in range(1, rounds + 1):
        await scene.until_committed(number, within_s=WITHIN_S)
        say(f"  round {number} of {rounds} is committed")
    return await scene.until_completed(within_s=WITHIN_S)


def figures(job: Job, beats: Sequence[Beat]) -> dict[str, object]:
    """Return medians over the committed rounds; heartbeats of all of them together."""
    done = [each for each in job.rounds if each.outcome == RoundOutcome.ROUND_OUTCOME_COMMITTED]
    phases = [phase_seconds(each) for each in done]
    during = [beat.seconds for each in done for beat in beats if _unmasking(each, beat.at)]
    return {
        "overhead_s": round(median(sum(each.values()) for each in phases), 2),
        "heartbeat_p99_ms": round(1e3 * quantiles(during, n=100)[98], 1) if len(during) > 1 else None,
        "heartbeats": len(during),
        "phase_s": {phase.value: round(median(each[phase] for each in phases), 2) for phase in phases[0]},
        "rounds": len(done),
        "dropped": round(sum(len(each.dropped) for each in done) / len(done), 1),
        "survivors": round(sum(len(each.completed) for each in done) / len(done), 1),
    }


def phase_seconds(done: Round) -> dict[RoundPhase, float]:
    """Return how long each phase took, in order."""
    return {enums.ROUND_PHASE.from_wire(each.phase): each.seconds for each in done.phase_times}


def _unmasking(done: Round, at: float) -> bool:
    """Tell whether the round was being unmasked then."""
    begin = done.started_at
    for phase, seconds in phase_seconds(done).items():
        if phase is RoundPhase.UNMASKING:
            return begin <= at <= begin + seconds
        begin += seconds
    return False


@click.command()
@click.option("--sites", default=100, show_default=True, help="Agents, in two processes.")
@click.option("--rounds", default=3, show_default=True, help="Rounds; figures are their medians.")
def main(sites: int, rounds: int) -> None:
    """Measure rounds whose training takes no time."""
    say(f"Rounds of {sites} agents, {DROP_OUT:.0%} of whom drop out ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        found = asyncio.run(measure(Path(place), sites, rounds))
    bars = {"overhead_s": 10, "heartbeat_p99_ms": 50}
    publish("bench-round", {**found, "sites": sites, "parameters": MILLION.head_parameters, "bars": bars})


if __name__ == "__main__":
    main()
