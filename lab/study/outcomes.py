"""Outcomes on disk: one line a cell, added when the cell is done, so that a study goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.simulation import Outcome, Point
from lab.study.cell import Cell
from lab.study.line_file import LineFile


class OutcomeFile:
    """Outcomes by the key of their cell."""

    def __init__(self, path: Path) -> None:
        """Read what is there and change nothing: a report may be asked for while a study is writing.

        Raise DataError for a whole line that is no outcome.
        """
        self._file = LineFile(path)
        outcomes = self._file.read(_read, "outcome", "Delete that line; its run is then played again.")
        self._known = {outcome.key: outcome for outcome in outcomes}

    @property
    def count(self) -> int:
        """Return how many outcomes there are."""
        return len(self._known)

    def find(self, cell: Cell) -> Outcome | None:
        """Return what came of a cell, if it was run."""
        return self._known.get(cell.key)

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Write an outcome down for good."""
        self._file.add({"cell": asdict(cell), "outcome": asdict(outcome)})
        self._known[outcome.key] = outcome


def _read(line: Mapping[str, Any]) -> Outcome:
    fields = line["outcome"]
    return Outcome(**{**fields, "curve": tuple(Point(**point) for point in fields["curve"])})
