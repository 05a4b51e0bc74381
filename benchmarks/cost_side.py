"""A process of the cost benchmark, whose figures it prints as JSON.

Usage: python -m benchmarks.cost_side FAMILY predict | memory MATRICES | time TURNS MATRICES ...
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Final, cast

import torch
from torch import nn
from torch.optim import AdamW

from benchmarks.cost_models import FAMILIES, Family
from benchmarks.step_models import NoiseClassifier, plan_for
from benchmarks.step_rivals import later_state
from edge_agent.hardware.measurement import measure_job
from edge_agent.hardware.memory import PeakMeter, release_unused, resident_bytes
from edge_agent.training.trainer import make_optimiser, take_step
from ravan.adapters.basis import drawn_bases
from ravan.adapters.model import inject, trained_parameters
from ravan.heap import give_back_at_once
from ravan.ids import BlockId, Digest
from ravan.manifest.profile import JobProfile
from ravan.tasks.task_model import EncodedExamples

_STEPS: Final = 4
_ROOMY: Final = 1 << 40
_NO_DATA: Final = cast("EncodedExamples", None)
"""Batches are noise, so no worst case looks at examples."""


class Side:
    """A family's model, loaded as an agent has it before it measures or trains."""

    def __init__(self, family: Family) -> None:
        self.model: nn.Module = family.case.build().requires_grad_(False)
        self.task = NoiseClassifier(self.model, family.case)
        self.plan = plan_for(self.model, family.case, family.targets)
        self.batch = family.case.batch()
        self._bases = drawn_bases(self.plan.adapter)
        self._bases(self.plan.matrices[-1])

    def predict(self) -> JobProfile:
        """Measure as an agent does; seconds are processor time."""
        return measure_job(
            self.task,
            self.plan,
            Digest(bytes(32)),
            data=_NO_DATA,
            bases=self._bases,
            limit_bytes=_ROOMY,
            clock=time.thread_time,
        )

    def memory(self, matrices: int) -> dict[str, int]:
        """Train the top `matrices` in a later round, and return what that takes over the loaded idle model."""
        self._warm_up()
        idle = resident_bytes()
        with PeakMeter() as meter:
            self._train(matrices)
        return {"idle_bytes": idle, "extra_bytes": meter.peak_bytes() - idle}

    def time(self, turns: int, numbers: list[int]) -> dict[str, list[list[float]]]:
        """Predict and train in turn; return each turn's predicted and measured seconds of a step."""
        self._warm_up()
        predicted, measured = [], []
        for _ in range(turns):
            profile = self.predict()
            predicted.append([profile.step_s(number) for number in numbers])
            measured.append([self._train(number) for number in numbers])
        return {"predicted_s": predicted, "measured_s": measured}

    def _train(self, matrices: int) -> float:
        """Take some steps and return the median processor time of one."""
        inject(self.model, self.plan, later_state(self.plan), self._trained(matrices), self._bases)
        optimiser = make_optimiser(trained_parameters(self.model, self.plan), self.plan.training, 1)
        seconds = []
        for _ in range(_STEPS):
            started = time.thread_time()
            take_step(self.task, optimiser, self.batch)
            seconds.append(time.thread_time() - started)
        return median(seconds[1:])

    def _trained(self, matrices: int) -> frozenset[BlockId]:
        first = len(self.plan.matrices) - matrices
        return frozenset(self.plan.dense_ids()) | {head for head in self.plan.head_ids() if head.matrix >= first}

    def _warm_up(self) -> None:
        """Load libraries, and read the weights in from their file, as the first step of a process does."""
        dense = [self.model.get_parameter(parameter.name).requires_grad_() for parameter in self.plan.dense]
        take_step(self.task, AdamW(dense), self.batch)
        self.model.zero_grad(set_to_none=True)
        release_unused()


def main(family: str, what: str, *numbers: str) -> dict[str, object]:
    """Return the figures that the command line asks for."""
    side = Side(FAMILIES[family])
    match what:
        case "memory":
            return dict(side.memory(int(numbers[0])))
        case "time":
            return dict(side.time(int(numbers[0]), [int(each) for each in numbers[1:]]))
        case _:
            profile = side.predict()
            extra = [profile.extra_bytes(number) for number in range(len(side.plan.matrices) + 1)]
            return {"loaded_bytes": profile.ram_loaded_bytes, "extra_bytes": extra}


if __name__ == "__main__":
    give_back_at_once()
    # The processor time of one thread is little disturbed by whatever else the machine does.
    torch.set_num_threads(1)
    print(json.dumps(main(*sys.argv[1:])))
