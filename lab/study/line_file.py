"""A file of JSON objects, one a line, each added for good: what a crash can cost is the line that was being written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ravan.errors import DataError, ErrorReason

_Value = TypeVar("_Value")


class LineFile:
    """The lines that were there, and a way to add more."""

    def __init__(self, path: Path) -> None:
        """Read what is there and change nothing; a last line that was cut off by a crash is left out."""
        self._path = path
        self._lines: list[bytes] = []
        self._torn_at: int | None = None
        """Where a last line without an end begins."""
        if path.exists():
            whole, newline, torn = path.read_bytes().rpartition(b"\n")
            self._lines = whole.split(b"\n") if whole else []
            self._torn_at = len(whole + newline) if torn else None

    def read(self, take: Callable[[Any], _Value], what: str, next_step: str) -> Iterator[_Value]:
        """Yield what `take` makes of each line that was there; raise DataError for one that is no such thing."""
        for number, line in enumerate(self._lines, start=1):
            try:
                yield take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"Line {number} of {self._path} is no {what}.",
                    reason=ErrorReason.DATA_UNREADABLE,
                    next_step=next_step,
                ) from None

    def add(self, fields: Mapping[str, object]) -> None:
        """Write a line down for good, over one that was cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._torn_at is not None:
            os.truncate(self._path, self._torn_at)
            self._torn_at = None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
