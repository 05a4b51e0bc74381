"""How a coordinator comes back that was killed in each state of a round, and whether anything was lost.

Killed with SIGKILL from outside; every update shows in the committed versions how often it was counted.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.results import publish, say
from ravan.wire.v1.operator_service_pb2 import Job
from simulation.job import Order
from simulation.kills import STATES, Killer, Recovery
from simulation.proof import CountedRound
from simulation.scene import set_scene

_ROUNDS = 1000
"""More than will be run: a state that lasts milliseconds may take some rounds to be met."""


async def measure(folder: Path, sites: int) -> dict[str, object]:
    """Kill in every state, then compare what the sites made with what was counted."""
    recoveries: list[Recovery] = []
    async with set_scene(folder, sites, Order(rounds=_ROUNDS, minimum_sites=sites), processes=1) as scene:
        scene.fleet.start()
        killer = Killer(scene)
        for state in STATES:
            recoveries.append(await killer.kill_in(state))
            last = recoveries[-1]
            say(
                f"  {state:<10} round {last.round_number}: ready after {last.ready_s:.1f} s, "
                f"committed after {last.committed_s:.1f} s"
            )
        job = await scene.finish()
        counted = await scene.count(job)
        made = sum(scene.fleet.updates.values())
    return figures(recoveries, job, counted, made)


def figures(recoveries: Sequence[Recovery], job: Job, counted: Sequence[CountedRound], made: int) -> dict[str, object]:
    """Return the worst of all kills, and how many of the `made` updates are in no version or in one more than once."""
    for fault in (fault for each in counted for fault in each.faults):
        say(f"  {fault}")
    return {
        "ready_after_kill_s": round(max(each.ready_s for each in recoveries), 3),
        "lost_updates": made - sum(len(each.counted) for each in counted),
        "phases_tried": len({each.state for each in recoveries}),
        "phases_total": len(STATES),
        "committed_after_kill_s": round(max(each.committed_s for each in recoveries), 3),
        "wrongly_counted": sum(len(each.faults) for each in counted),
        "updates": made,
        "rounds": len(job.rounds),
        "rounds_committed": len(counted),
    }


@click.command()
@click.option("--sites", default=8, show_default=True, help="Agents of the fleet.")
def main(sites: int) -> None:
    """Kill the coordinator in every state of the transition table."""
    say(f"{sites} agents; the coordinator is killed in {len(STATES)} states: {', '.join(STATES)} ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        found = asyncio.run(measure(Path(place), sites))
    bars = {"ready_after_kill_s": 10, "lost_updates": 0, "phases_tried": len(STATES)}
    publish("bench-recovery", {**found, "sites": sites, "bars": bars})


if __name__ == "__main__":
    main()
