"""What a sample says of its tables and keys: the one place where operators are told what a key is for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_KEY: Final = re.compile(r"(?:# )?([a-z_]+) = ")
_TABLE: Final = re.compile(r"(?:# )?\[([\w.-]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyComment:
    """One comment and the keys that stand below it, before the next."""

    text: str
    keys: tuple[str, ...]


@dataclass(slots=True)
class TableComment:
    """One table of a sample."""

    text: str
    """What stands above its name; of most tables nothing."""
    keys: list[KeyComment] = field(default_factory=list)


def read_comments(sample: str) -> dict[str, TableComment]:
    """Return the comments by the first part of a table's name; raise ValueError for a key without any."""
    tables: dict[str, TableComment] = {}
    lines: list[str] = []
    current: TableComment | None = None
    for line in sample.splitlines():
        if table := _TABLE.fullmatch(line):
            current = tables[table[1].split(".")[0]] = TableComment(" ".join(lines) if current else "")
            lines = []
        elif (key := _KEY.match(line)) and current:
            _note(current, key[1], lines)
            lines = []
        elif line:
            lines.append(line.removeprefix("#").strip())
    return tables


def _note(table: TableComment, key: str, lines: list[str]) -> None:
    if lines:
        table.keys.append(KeyComment(text=" ".join(lines), keys=(key,)))
    elif table.keys:
        last = table.keys.pop()
        table.keys.append(KeyComment(text=last.text, keys=(*last.keys, key)))
    else:
        raise ValueError(f"nothing says what `{key}` is for")
