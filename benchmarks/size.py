"""Large models: a quarter of a 1.2B shape's heads trained, and a 7B shape planned without its weights.

Both in float32 and in bfloat16. What the plan on the meta device says of the smaller shape is held against what the
step then takes; the larger one is a forecast by the same counting, at the speed that the smaller one reached.

Keys by precision, `float32` and `bfloat16`, of the smaller shape unless they say `planned`:
`model_mb` resident with the loaded model; `prepare_peak_mb`, `step_peak_mb` over that; `step_peak_predicted_mb` and
`ratio_step_peak_to_predicted`; `prepare_s`, `step_s`, and `step_predicted_s` from the speed of one product;
`planned_step_s`; `shapes` with the forecast of each shape. `speed_ratio_bfloat16` is float32's step time over
bfloat16's.
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
from ravan.manifest.plan import Precision

MEASURED, PLANNED = SHAPES
PRECISIONS = (Precision.FLOAT32, Precision.BFLOAT16)


def measure_apart(name: str, precision: Precision, threads: int) -> dict[str, Any]:
    """Return what training a quarter of the shape took in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.size_side", name, precision, str(threads)]
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
        "adapter_mb": round(plan.adapter_bytes / 1e6, 1),
        "kept_mb": round(plan.kept_bytes / 1e6, 1),
        "working_mb": round(plan.working_bytes / 1e6, 1),
        "ram_gb": round((plan.model_bytes + plan.extra_bytes) / 1e9, 2),
        "upload_mb": round(plan.upload_bytes / 1e6, 2),
        "version_mb": round(plan.version_bytes / 1e6, 1),
        "step_gflop": round(plan.step_flops / 1e9),
    }


def compare(precision: Precision, threads: int) -> dict[str, Any]:
    """Plan both shapes in a precision, train the smaller one, and return the table's figures."""
    say(f"{precision}: planning on the meta device ...")
    plans = {name: forecast(name, precision) for name in SHAPES}
    say(f"{precision}: building {MEASURED} with random weights and training a quarter of its heads; two minutes ...")
    took, plan = measure_apart(MEASURED, precision, threads), plans[MEASURED]
    speed = plan.step_flops / took["step_s"]
    return {
        "prepare_peak_mb": round(took["prepare_peak_bytes"] / 1e6, 1),
        "step_peak_mb": round(took["step_peak_bytes"] / 1e6, 1),
        "step_peak_predicted_mb": round(plan.extra_bytes / 1e6, 1),
        "ratio_step_peak_to_predicted": round(took["step_peak_bytes"] / plan.extra_bytes, 3),
        "model_mb": round(took["idle_bytes"] / 1e6, 1),
        "prepare_s": round(took["prepare_s"], 1),
        "step_s": round(took["step_s"], 2),
        "step_predicted_s": round(plan.step_flops / took["flops_per_s"], 2),
        "planned_step_s": round(plans[PLANNED].step_flops / speed, 1),
        "shapes": {name: describe(each) for name, each in plans.items()},
    }


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of the tensor library.")
def main(threads: int) -> None:
    """Train a quarter of a large model, and plan a larger one."""
    figures: dict[str, Any] = {precision.value: compare(precision, threads) for precision in PRECISIONS}
    ratio = figures[Precision.FLOAT32]["step_s"] / figures[Precision.BFLOAT16]["step_s"]
    publish("bench-size", figures | {"speed_ratio_bfloat16": round(ratio, 2)})


if __name__ == "__main__":
    main()
