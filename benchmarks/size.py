"""Large models: a quarter of a 1.2B shape's heads trained in float32, and a 7B shape planned without its weights.

What the plan on the meta device says of the smaller shape is held against what the step then takes; the larger one is
a forecast by the same counting, at the speed that the smaller one reached.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import click

from benchmarks.results import publish, say
from benchmarks.size_models import SHAPES, Forecast, forecast

MEASURED, PLANNED = SHAPES


def measure_apart(name: str, threads: int) -> dict[str, Any]:
    """Return what training a quarter of the shape took in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.size_side", name, str(threads)]
    # Threads of the QR that draws bases wait for each other by spinning: twenty times as long on a busy machine.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    figures: dict[str, Any] = json.loads(answer)
    return figures


def describe(plan: Forecast) -> dict[str, float]:
    """Return a forecast in the units of the table: GB and MB of 10^9 and 10^6 bytes."""
    return {
        "parameters": plan.parameters,
        "matrices": plan.matrices,
        "trained_matrices": plan.trained_matrices,
        "trained": plan.trained,
        "model_gb": round(plan.model_bytes / 1e9, 2),
        "model_bf16_gb": round(plan.model_bytes / 2e9, 2),
        "adapter_mb": round(plan.adapter_bytes / 1e6, 1),
        "kept_mb": round(plan.kept_bytes / 1e6, 1),
        "ram_gb": round((plan.model_bytes + plan.extra_bytes) / 1e9, 2),
        "upload_mb": round(plan.upload_bytes / 1e6, 2),
        "version_mb": round(plan.version_bytes / 1e6, 1),
        "step_gflop": round(plan.step_flops / 1e9),
    }


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of the tensor library.")
def main(threads: int) -> None:
    """Train a quarter of a large model, and plan a larger one."""
    plans = {}
    for name in SHAPES:
        say(f"{name}: planning on the meta device ...")
        plans[name] = forecast(name)
    say(f"{MEASURED}: building it with random weights and training a quarter of its heads; two minutes ...")
    took = measure_apart(MEASURED, threads)
    speed = plans[MEASURED].step_flops / took["step_s"]
    publish(
        "bench-size",
        {
            "prepare_peak_mb": round(took["prepare_peak_bytes"] / 1e6, 1),
            "step_peak_mb": round(took["step_peak_bytes"] / 1e6, 1),
            "step_peak_predicted_mb": round(plans[MEASURED].extra_bytes / 1e6, 1),
            "ratio_step_peak_to_predicted": round(took["step_peak_bytes"] / plans[MEASURED].extra_bytes, 3),
            "model_mb": round(took["idle_bytes"] / 1e6, 1),
            "prepare_s": round(took["prepare_s"], 1),
            "step_s": round(took["step_s"], 2),
            "step_predicted_s": round(plans[MEASURED].step_flops / took["flops_per_s"], 2),
            "planned_step_s": round(plans[PLANNED].step_flops / speed, 1),
            "shapes": {name: describe(plan) for name, plan in plans.items()},
        },
    )


if __name__ == "__main__":
    main()
