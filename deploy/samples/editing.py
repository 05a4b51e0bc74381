"""Two other forms of a commented sample: with every key set, and with the fewest keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_HIDDEN: Final = re.compile(r"^# (?=\[|[a-z_]+ = )")
"""What hides a key or a table in a comment."""

_TABLE: Final = re.compile(r"\[(?P<name>[^\]]+)\]$")
_KEY: Final = re.compile(r"(?P<name>[a-z_]+) = (?P<value>.*?)(?P<remark> +#.*)?$")
_GAP: Final = re.compile(r"(?<=\S)  +#")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    """Without what hides it."""
    table: str
    key: str
    """Empty on a line that is none."""


def complete(sample: str, values: Mapping[str, str]) -> str:
    """Return a sample with every key set: to its default, or to what `values` holds in TOML for `table.key`.

    Raises KeyError for a key that the sample does not have.
    """
    left = dict(values)
    lines = []
    for line in _lines_of(sample):
        value = left.pop(f"{line.table}.{line.key}", None)
        lines.append(line.text if value is None else _with_value(line.text, value))
    if left:
        raise KeyError(f"the sample has no {', '.join(left)}")
    return "".join(f"{line}\n" for line in lines)


def shorten(sample: str, needed: Collection[str]) -> str:
    """Return what a sample says of the keys `table.key` that are needed, their tables and remarks, and nothing else."""
    lines: list[str] = []
    remarks: list[str] = []
    header: list[str] = []
    for line in _lines_of(sample):
        if _TABLE.fullmatch(line.text):
            header, remarks = ["", *remarks, line.text], []
        elif f"{line.table}.{line.key}" in needed:
            lines += [*header, *remarks, line.text]
            header, remarks = [], []
        elif line.text.startswith("#"):
            remarks.append(line.text)
        else:
            remarks = []
    return "".join(f"{line}\n" for line in lines[1:])


def _lines_of(sample: str) -> Iterator[_Line]:
    table = ""
    for text in sample.splitlines():
        shown = _HIDDEN.sub("", text)
        if shown != text:
            # Remarks beside keys stay where they stood.
            shown = _GAP.sub(lambda gap: f"  {gap[0]}", shown, count=1)
        if found := _TABLE.fullmatch(shown):
            table = found["name"]
        key = _KEY.fullmatch(shown)
        yield _Line(shown, table, key["name"] if key else "")


def _with_value(text: str, value: str) -> str:
    key = _KEY.fullmatch(text)
    assert key is not None, "only keys are given values"  # noqa: S101
    return f"{key['name']} = {value}{key['remark'] or ''}"
