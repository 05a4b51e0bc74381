"""Whether the product lands where the simulator says: figures of both, kept and compared. Pure but for its one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Final

from lab.report.tables import say_difference
from lab.study.cell import Cell
from lab.study.paired import spread
from lab.study.unpaired import contrast
from ravan.errors import DataError, ErrorReason

_ANY_SEED: Final = 0
"""The product draws its own."""


def keep_runs(path: Path, cell: Cell, runs: Iterable[Sequence[float]]) -> None:
    """Add the product's runs of a cell to a file of lines, each with the accuracy of every version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for accuracies in runs:
            line = {"cell": asdict(cell), "key": _key(cell), "accuracies": list(accuracies)}
            file.write(json.dumps(line, sort_keys=True) + "\n")


def kept_runs(path: Path, cell: Cell) -> list[tuple[float, ...]]:
    """Return all runs of a cell in the file, whatever their seeds; raise DataError for a line that is none."""
    if not path.exists():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            if line["key"] == _key(cell):
                found.append(tuple(map(float, line["accuracies"])))
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"Line {number} of {path} is no run of the product.",
                reason=ErrorReason.DATA_UNREADABLE,
                next_step="Delete that line, and confirm again if its run is to count.",
            ) from None
    return found


def final_accuracies(runs: Iterable[Sequence[float]], average_last: int) -> list[float]:
    """Return each run's mean over its last rounds, as the simulator scores its own."""
    return [fmean(accuracies[-average_last:]) for accuracies in runs]


def say_confirmation(product: Sequence[float], simulated: Sequence[float]) -> str:
    """Return what both found, and whether they differ."""
    text = f"product    {_say(product)}\nsimulator  {_say(simulated)}\n"
    if not simulated:
        return text + "There is nothing to compare with: run the plan first.\n"
    return text + f"difference {say_difference(contrast(product, simulated))} points (Welch, 95 %)\n"


def _say(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "no runs"
    return f"{100 * fmean(accuracies):.2f} %, sd {100 * spread(accuracies):.2f}, {len(accuracies)} runs"


def _key(cell: Cell) -> str:
    return replace(cell, seed=_ANY_SEED).key
