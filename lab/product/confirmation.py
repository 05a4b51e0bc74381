"""Whether the product lands where the simulator says: figures of both, kept and compared. Pure but for its one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from lab.report.tables import say_difference
from lab.study.cell import Cell
from lab.study.line_file import LineFile
from lab.study.paired import spread
from lab.study.unpaired import contrast

_ANY_SEED: Final = 0
"""The product draws its own."""


class ProductFile:
    """The product's runs of a cell, in a file of lines, each with the accuracy of every version."""

    def __init__(self, path: Path, cell: Cell) -> None:
        """Read the cell's runs, whatever their seeds; raise DataError for a line that is no run."""
        self._file, self._cell = LineFile(path), cell
        self._key = replace(cell, seed=_ANY_SEED).key
        lines = self._file.read(_read, "run of the product", "Delete that line; without it the others still count.")
        self.runs = [accuracies for key, accuracies in lines if key == self._key]

    def add(self, accuracies: Sequence[float]) -> None:
        """Write a run down for good."""
        self._file.add({"cell": asdict(self._cell), "key": self._key, "accuracies": list(accuracies)})
        self.runs.append(tuple(accuracies))


def final_accuracies(runs: Iterable[Sequence[float]], average_last: int) -> list[float]:
    """Return each run's mean over its last rounds, as the simulator scores its own."""
    return [fmean(accuracies[-average_last:]) for accuracies in runs]


def say_confirmation(product: Sequence[float], simulated: Sequence[float]) -> str:
    """Return what both found, and whether they differ."""
    text = f"product    {_say(product)}\nsimulator  {_say(simulated)}\n"
    if not simulated:
        return text + "There is nothing to compare with: run the plan with `python -m lab run`.\n"
    return text + f"difference {say_difference(contrast(product, simulated))} points (Welch, 95 %)\n"


def _say(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "no runs"
    return f"{100 * fmean(accuracies):.2f} %, sd {100 * spread(accuracies):.2f}, {len(accuracies)} runs"


def _read(line: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
    return line["key"], tuple(map(float, line["accuracies"]))
