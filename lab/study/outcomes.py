"""Outcomes on disk: one line a cell, added when the cell is done, so that a study goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.simulation import Outcome, Point
from lab.study.cell import Cell
from lab.study.line_file import LineFile


class OutcomeFile:
    """Outcomes by the key of their cell."""

    def __init__(self, path: Path, neighbours: Iterable[Path] = ()) -> None:
        """Read what is there and change nothing: a report may be asked for while a study is writing.

        `neighbours` are files of other studies, to adopt from. Raise DataError for a whole line that is no outcome.
        """
        self._file = LineFile(path)
        self._known = _read_all(self._file)
        self._elsewhere = {key: each for other in neighbours for key, each in _read_all(LineFile(other)).items()}

    def adopt(self, cells: Iterable[Cell]) -> None:
        """Write down what neighbours have of cells: equal keys are equal runs, whichever study asked for them."""
        for cell in cells:
            if cell.key not in self._known and (found := self._elsewhere.get(cell.key)) is not None:
                self.add(cell, found)

    def find(self, cell: Cell) -> Outcome | None:
        """Return what came of a cell, if it was run, for this study or a neighbour."""
        return self._known.get(cell.key) or self._elsewhere.get(cell.key)

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Write an outcome down for good."""
        self._file.add({"cell": asdict(cell), "outcome": asdict(outcome)})
        self._known[outcome.key] = outcome


def _read_all(file: LineFile) -> dict[str, Outcome]:
    outcomes = file.read(_read, "outcome", "Delete that line; its run is then played again.")
    return {outcome.key: outcome for outcome in outcomes}


def _read(line: Mapping[str, Any]) -> Outcome:
    fields = line["outcome"]
    return Outcome(**{**fields, "curve": tuple(Point(**point) for point in fields["curve"])})
