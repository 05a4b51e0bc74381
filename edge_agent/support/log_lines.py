"""What of a log line may leave the PC: the log is the plant's own and speaks of its data, and this must not. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from edge_agent.support.redaction import LEFT_OUT, Redactor

_PLAIN: Final = frozenset(
    {
        "timestamp",
        "level",
        "logger",
        "kind",
        "reason",
        "outcome",
        "limited_by",
        "version",
        "method",
        "phase",
    }
)
"""Fields with words of our own."""
_SENTENCES: Final = frozenset({"event", "why", "next_step"})
_NAMES: Final = frozenset({"job", "site", "sites", "coordinator"})
"""What headquarters knows anyway."""
_NUMBERS: Final = re.compile(
    r"round|heads|steps|step|seconds|bytes|done|total|cores|matrices|good_for_days|\w+_(mb|kb|ms|s)"
)
"""Not among them: how many examples there are."""
_KNOWN_ERRORS: Final = frozenset({"an unexpected error", "refused an instruction"})
_FRAME: Final = re.compile(r'\s*File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<function>\w+|<\w+>)')
_FAULT: Final = re.compile(r"(?P<kind>[A-Za-z_][\w.]*)(:|$)")


def reduce_lines(lines: Iterable[str], redactor: Redactor) -> Iterator[str]:
    """Yield each line without what could be data; one that is not JSON is left out."""
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield json.dumps(_reduced(entry, redactor), ensure_ascii=False)


def _reduced(entry: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    speaks_of_data = _speaks_of_data(entry)
    kept: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "exception":
            kept[key] = list(_frames(str(value)))
        elif isinstance(value, bool | int | float):
            if _NUMBERS.fullmatch(key):
                kept[key] = value
        elif key in _SENTENCES:
            kept[key] = LEFT_OUT if speaks_of_data else redactor.clean(str(value))
        elif key in _PLAIN | _NAMES and isinstance(value, str):
            kept[key] = value
    return kept


def _speaks_of_data(entry: dict[str, Any]) -> bool:
    """Tell whether its sentences may quote data: an error of that kind, or one whose kind is not known."""
    if entry.get("level") not in ("error", "critical"):
        return False
    return entry.get("event") not in _KNOWN_ERRORS and entry.get("kind") in (None, "DataError")


def _frames(trace: str) -> Iterator[str]:
    """Yield where it failed and of what kind the error was; what it said may be a cell of a table."""
    for line in trace.splitlines():
        if (frame := _FRAME.match(line)) is not None:
            module = frame["file"].replace("\\", "/").rpartition("site-packages/")[2].rpartition("/edge_agent/")
            yield f"{module[1].lstrip('/')}{module[2]}:{frame['line']} {frame['function']}"
        elif line[:1].isalpha() and (fault := _FAULT.match(line)) is not None:
            yield fault["kind"]
