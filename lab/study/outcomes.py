"""Outcomes on disk: one line a cell, added when the cell is done, so that a study goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.simulation import Outcome, Point
from lab.study.cell import Cell
from ravan.errors import DataError, ErrorReason


class OutcomeFile:
    """Outcomes by the key of their cell."""

    def __init__(self, path: Path) -> None:
        """Read what is there and change nothing: a report may be asked for while a study is writing.

        A last line that was cut off by a crash is left out. Raise DataError for any other that is no outcome.
        """
        self._path = path
        self._known: dict[str, Outcome] = {}
        self._torn_at: int | None = None
        """Where a last line without an end begins."""
        if path.exists():
            whole, newline, torn = path.read_bytes().rpartition(b"\n")
            self._known = {outcome.key: outcome for outcome in _read_lines(path, whole)}
            self._torn_at = len(whole + newline) if torn else None

    @property
    def count(self) -> int:
        """Return how many outcomes there are."""
        return len(self._known)

    def find(self, cell: Cell) -> Outcome | None:
        """Return what came of a cell, if it was run."""
        return self._known.get(cell.key)

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Write an outcome down for good, over a line that was cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._torn_at is not None:
            os.truncate(self._path, self._torn_at)
            self._torn_at = None
        line = json.dumps({"cell": asdict(cell), "outcome": asdict(outcome)}, sort_keys=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._known[outcome.key] = outcome


def _read_lines(path: Path, whole: bytes) -> Iterator[Outcome]:
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            yield _read(json.loads(line)["outcome"])
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"Line {number} of {path} is no outcome.",
                reason=ErrorReason.DATA_UNREADABLE,
                next_step="Delete that line; its run is then played again.",
            ) from None


def _read(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**fields, "curve": tuple(Point(**point) for point in fields["curve"])})
