"""What a plan will take, measured before it begins: a few steps of each method, and one pass over the examples."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lab.simulation import begin, build_bench, long_lived_objects_set_aside, use_one_thread
from lab.study.cell import Cell, Federation, Part
from lab.tasks.registry import load_task
from lab.tasks.task import LabTask

_STEPS: Final = 3


def estimate_seconds(cells: Iterable[Cell]) -> float:
    """Return the processor time of all cells; takes some seconds for each kind of cell.

    Raise ConfigError for a cell that cannot be played, before any is.
    """
    use_one_thread()
    dealt: set[tuple[Federation, int]] = set()
    per_step: dict[tuple[object, ...], float] = {}
    per_pass: dict[Part, float] = {}
    total = 0.0
    for cell in cells:
        lab = load_task(cell.task)
        if (cell.federation, cell.seed) not in dealt:
            build_bench(cell, lab)
            dealt.add((cell.federation, cell.seed))
        kind = (cell.method, cell.options, cell.federation.capacities)
        if kind not in per_step:
            per_step[kind] = _time_step(cell, lab)
        if cell.part not in per_pass:
            per_pass[cell.part] = _time_pass(cell, lab)
        steps = cell.training.rounds * cell.federation.per_round * cell.training.steps
        total += steps * per_step[kind] + cell.training.average_last * per_pass[cell.part]
    return total


def _time_step(cell: Cell, lab: LabTask) -> float:
    """Return the seconds of a step in the quickest round: some methods prepare in the first or the second one."""
    # One client alone is below any threshold, and would train nothing.
    options = tuple((name, value) for name, value in cell.options if name != "threshold")
    method = begin(replace(cell, options=options, training=replace(cell.training, steps=_STEPS)), lab)
    taken = []
    with long_lived_objects_set_aside():
        for round_number in (1, 2, 3):
            started = time.process_time()
            method.play(round_number, method.cohort(round_number)[:1])
            taken.append((time.process_time() - started) / _STEPS)
    return min(taken)


def _time_pass(cell: Cell, lab: LabTask) -> float:
    method = begin(replace(cell, method="head_only", options=()), lab)
    started = time.process_time()
    method.evaluate(lab.test if cell.part is Part.TEST else lab.validation)
    return time.process_time() - started
