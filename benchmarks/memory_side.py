"""A process of the memory benchmark: measure one form of one case and print its figures as JSON.

Usage: python -m benchmarks.memory_side CASE FORM THREADS
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.optim import AdamW

from benchmarks.step_models import BERT_BASE, MINILM, Case, NoiseClassifier
from benchmarks.step_rivals import FORMS
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import take_step
from ravan.heap import give_back_at_once
from ravan.tasks.batch import Batch

CASES = {case.name: case for case in (MINILM, BERT_BASE)}

_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """What one form took."""

    idle_bytes: int
    """Resident with the model loaded and read."""
    extra_peak_bytes: int
    """Over that, from an untouched model to the end of some steps."""
    trained: int
    """Numbers that are trained."""


def measure_form(case: Case, form: str) -> MemoryFigures:
    """Put a loaded model into the form, take some steps, and return what that took."""
    model = case.build().requires_grad_(False)
    # The first step loads libraries, which keep room for batches of this size, and reads the weights in from their
    # file; that stays in memory whatever trains, and is no cost of a form.
    classifier = [p for name, p in model.named_parameters() if name.startswith("classifier.")]
    for parameter in classifier:
        parameter.requires_grad_()
    _take_steps(NoiseClassifier(model, case), classifier, case.batch(), 1)
    model.zero_grad(set_to_none=True)
    release_unused()
    idle = resident_bytes()
    with PeakMeter() as meter:
        model = FORMS[form](model, case)
        parameters = [p for p in model.parameters() if p.requires_grad]
        _take_steps(NoiseClassifier(model, case), parameters, case.batch(), _STEPS)
    return MemoryFigures(
        idle_bytes=idle,
        extra_peak_bytes=meter.peak_bytes() - idle,
        trained=sum(parameter.numel() for parameter in parameters),
    )


def _take_steps(task: NoiseClassifier, parameters: list[nn.Parameter], batch: Batch, steps: int) -> None:
    optimiser = AdamW(parameters, lr=1e-4, weight_decay=0.0)
    for _ in range(steps):
        take_step(task, optimiser, batch)


if __name__ == "__main__":
    give_back_at_once()
    torch.set_num_threads(int(sys.argv[3]))
    print(json.dumps(asdict(measure_form(CASES[sys.argv[1]], sys.argv[2]))))
