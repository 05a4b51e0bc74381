"""Outcomes on disk: one line a cell, added when the cell is done, so that a study goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.simulation import Outcome, Point
from lab.study.cell import Cell


class OutcomeFile:
    """Outcomes by the key of their cell."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that was cut off by a crash is left out and written over."""
        self._path = path
        self._known: dict[str, Outcome] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            for line in whole.splitlines():
                outcome = _read(json.loads(line)["outcome"])
                self._known[outcome.key] = outcome
            os.truncate(path, len(whole) + 1 if whole else 0)

    @property
    def count(self) -> int:
        """Return how many outcomes there are."""
        return len(self._known)

    def find(self, cell: Cell) -> Outcome | None:
        """Return what came of a cell, if it was run."""
        return self._known.get(cell.key)

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Write an outcome down for good."""
        line = json.dumps({"cell": asdict(cell), "outcome": asdict(outcome)}, sort_keys=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._known[outcome.key] = outcome


def _read(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**fields, "curve": tuple(Point(**point) for point in fields["curve"])})
