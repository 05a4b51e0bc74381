"""How well an agent predicts what an allocation takes: memory and time of a step, for four families of models.

The prediction is the agent's own (`edge_agent.hardware.measurement.measure_job`), which trains about a quarter; it is
held against steps of allocations from the dense blocks alone up to all heads. Memory is what a step takes over the
loaded idle model, each in a process of its own. Time is processor time, and predictions and steps take turns: an error
is the median over turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any, Final

import click

from benchmarks.cost_models import FAMILIES
from benchmarks.results import publish, say

BAR: Final = 0.20


def run_apart(family: str, *what: str | int) -> dict[str, Any]:
    """Return the figures of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cost_side", family, *map(str, what)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    figures: dict[str, Any] = json.loads(answer)
    return figures


def allocations(layers: int, matrices: int) -> dict[str, int]:
    """Return the number of matrices from the top of each allocation that is compared."""
    parts = {"one layer": matrices // layers, "quarter": matrices // 4, "half": matrices // 2, "all": matrices}
    return {"dense alone": 0, "one matrix": 1, **parts}


def compare(name: str, turns: int) -> dict[str, Any]:
    """Return predicted and measured figures of one family's allocations, and the worst relative errors."""
    say(f"{name}: measuring as an agent does ...")
    predicted = run_apart(name, "predict")
    chosen = allocations(FAMILIES[name].layers, len(predicted["extra_bytes"]) - 1)
    rows = {each: _memory(name, predicted, matrices) for each, matrices in chosen.items()}
    say(f"  taking turns for the time of {len(rows)} allocations ...")
    timed = run_apart(name, "time", turns, *chosen.values())
    for position, (each, row) in enumerate(rows.items()):
        took = [turn[position] for turn in timed["measured_s"]]
        ratios = [turn[position] / seconds for turn, seconds in zip(timed["predicted_s"], took, strict=True)]
        row |= {"step_ms": round(1000 * median(took), 1), "time_error": round(median(ratios) - 1, 3)}
        say(f"  {each}: {row['step_ms']} ms, predicted {row['time_error']:+.1%}")
    return {
        "worst_memory_error": max(abs(row["memory_error"]) for row in rows.values()),
        "worst_time_error": max(abs(row["time_error"]) for row in rows.values()),
        "allocations": rows,
    }


def _memory(name: str, predicted: dict[str, Any], matrices: int) -> dict[str, float]:
    took, extra = run_apart(name, "memory", matrices), predicted["extra_bytes"][matrices]
    process = took["idle_bytes"] + took["extra_bytes"]
    row = {
        "matrices": matrices,
        "memory_mb": round(took["extra_bytes"] / 1e6, 1),
        "memory_error": round(extra / took["extra_bytes"] - 1, 3),
        "process_mb": round(process / 1e6, 1),
        "process_error": round((predicted["loaded_bytes"] + extra) / process - 1, 3),
    }
    say(f"  {matrices} matrices: {row['memory_mb']} MB, predicted {row['memory_error']:+.1%}")
    return row


@click.command()
@click.option("--family", "names", multiple=True, type=click.Choice(list(FAMILIES)), help="Only these families.")
@click.option("--turns", default=3, show_default=True, help="Predictions and steps in turn; medians are reported.")
def main(names: tuple[str, ...], turns: int) -> None:
    """Compare predicted with measured costs."""
    families = {name: compare(name, turns) for name in names or FAMILIES}
    publish(
        "bench-cost",
        {
            "worst_memory_error": max(family["worst_memory_error"] for family in families.values()),
            "worst_time_error": max(family["worst_time_error"] for family in families.values()),
            "bars": {"worst_memory_error": BAR, "worst_time_error": BAR},
            "families": families,
        },
    )


if __name__ == "__main__":
    main()
