"""`make simulate`: a fleet on this machine, with drop-outs and a coordinator that is killed in mid-round."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import click

from ravan.manifest.phases import RoundOutcome
from simulation.course import Course, Story, run_course


def tell(story: Story, seconds: float) -> bool:
    """Print what happened; return whether every update was counted exactly once."""
    for each in story.rounds:
        cut = f"{len(each.cut)} lost power" if each.cut else "nobody lost power"
        print(f"round {each.number}: {each.outcome}, {len(each.selected)} selected, {cut}, {len(each.counted)} counted")
        for sentence in (*each.faults, *(f"{site} is in no version." for site in sorted(each.lost))):
            print(f"  {sentence}")
    restarts = ", ".join(f"{each:.1f}" for each in story.restarts_s) or "none"
    print(f"{seconds:.0f} s in all; coordinator: peak {story.peak_rss_mb:.0f} MB, {story.disk_mb:.0f} MB on disk")
    print(f"crashes: {story.crashes}; seconds until ready again: {restarts}")
    exact = all(
        each.outcome is RoundOutcome.COMMITTED and not each.faults and not each.lost and each.counted == each.completed
        for each in story.rounds
    )
    print("Every update was counted exactly once." if exact else "NOT every update was counted exactly once.")
    return exact


@click.command()
@click.option("--sites", default=200, show_default=True, help="Agents.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--crashes", default=1, show_default=True, help="Kills of the coordinator, each in another phase.")
@click.option("--drop-out", default=0.1, show_default=True, help="Share of the agents that lose power in a round.")
@click.option("--processes", default=2, show_default=True, help="Processes that the agents run in.")
@click.option("--seed", default=0, show_default=True, help="Decides who loses power when.")
def main(sites: int, rounds: int, crashes: int, drop_out: float, processes: int, seed: int) -> None:
    """Run a job and prove from its versions who was counted."""
    course = Course(sites=sites, rounds=rounds, crashes=crashes, drop_out=drop_out, processes=processes, seed=seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ravan-simulation-") as place:
        story = asyncio.run(run_course(Path(place), course, lambda sentence: print(sentence, flush=True)))
    sys.exit(0 if tell(story, time.monotonic() - began) else 1)


if __name__ == "__main__":
    main()
