"""A process of the size benchmark: train a quarter of a large model's heads and print what that took as JSON.

Usage: python -m benchmarks.size_side SHAPE THREADS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch.nn.functional import linear

from benchmarks.size_models import TOKENS, case_of, quarter
from benchmarks.step_models import plan_for
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.model import inject, trained_parameters
from ravan.adapters.state import initial_state
from ravan.heap import give_back_at_once

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


def measure_quarter(name: str) -> SizeFigures:
    """Build a shape with random weights, train its upper quarter for some steps, and return what that took."""
    case = case_of(name)
    model = case.build().requires_grad_(False)
    plan, batch = plan_for(model, case, ("all",)), case.batch()
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight").detach()
    release_unused()
    idle = resident_bytes()
    with PeakMeter() as preparing:
        prepare_s = _time(lambda: inject(model, plan, initial_state(plan), quarter(plan)))
    release_unused()
    with PeakMeter() as stepping:
        optimiser = make_optimiser(trained_parameters(model, plan), plan.training, 1)
        # In turn, so that whatever else the machine does slows both.
        turns = [(_product_speed(weight), _time(lambda: take_step(model, optimiser, batch))) for _ in range(_STEPS)]
    return SizeFigures(
        idle_bytes=idle,
        prepare_peak_bytes=preparing.peak_bytes() - idle,
        step_peak_bytes=stepping.peak_bytes() - idle,
        prepare_s=prepare_s,
        step_s=median(seconds for _, seconds in turns),
        flops_per_s=median(speed for speed, _ in turns),
    )


def _product_speed(weight: torch.Tensor) -> float:
    x = torch.randn(TOKENS, weight.shape[1])
    seconds = median(_time(lambda: linear(x, weight)) for _ in range(_PRODUCTS))
    return 2 * x.numel() * weight.shape[0] / seconds


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    give_back_at_once()
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(asdict(measure_quarter(sys.argv[1]))))
