"""A process of the size benchmark: train a quarter of a large model's heads and print what that took as JSON.

Usage: python -m benchmarks.size_side SHAPE PRECISION THREADS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import nn

from benchmarks.size_models import TOKENS, case_of, quarter
from benchmarks.step_models import NoiseClassifier, plan_for
from edge_agent.hardware.memory import PeakMeter, give_back_at_once, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.model import inject, trained_parameters
from ravan.adapters.state import initial_state
from ravan.manifest.plan import Precision

_STEPS = 3
_PRODUCTS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFigures:
    """What training a quarter took."""

    idle_bytes: int
    """Resident with the model built and nothing trained."""
    prepare_peak_bytes: int
    """Over that, while the bases are drawn and the heads put in."""
    step_peak_bytes: int
    """Over that, while steps are taken."""
    prepare_s: float
    """Drawing the bases and putting the heads in, once a round."""
    step_s: float
    """Median step."""
    flops_per_s: float
    """Speed of one of the model's own matrix products by itself, between the steps."""


def measure_quarter(name: str, precision: Precision) -> SizeFigures:
    """Build a shape with random weights, train its upper quarter for some steps, and return what that took."""
    case = case_of(name, precision)
    model = case.build().requires_grad_(False)
    task, plan, batch = NoiseClassifier(model, case), plan_for(model, case, ("all",)), case.batch()
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    release_unused()
    idle = resident_bytes()
    with PeakMeter() as preparing:
        prepare_s = _time(lambda: inject(model, plan, initial_state(plan), quarter(plan)))
    release_unused()
    with PeakMeter() as stepping:
        optimiser = make_optimiser(trained_parameters(model, plan), plan.training, 1)
        # In turn, so that whatever else the machine does slows both.
        turns = [(_product_speed(layer), _time(lambda: take_step(task, optimiser, batch))) for _ in range(_STEPS)]
    return SizeFigures(
        idle_bytes=idle,
        prepare_peak_bytes=preparing.peak_bytes() - idle,
        step_peak_bytes=stepping.peak_bytes() - idle,
        prepare_s=prepare_s,
        step_s=median(seconds for _, seconds in turns),
        flops_per_s=median(speed for speed, _ in turns),
    )


def _product_speed(layer: nn.Module) -> float:
    weight = layer.get_parameter("weight")
    x = torch.randn(TOKENS, weight.shape[1], dtype=weight.dtype)
    seconds = median(_time(lambda: layer(x)) for _ in range(_PRODUCTS))
    return 2 * x.numel() * weight.shape[0] / seconds


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    give_back_at_once()
    torch.set_num_threads(int(sys.argv[3]))
    print(json.dumps(asdict(measure_quarter(sys.argv[1], Precision(sys.argv[2])))))
