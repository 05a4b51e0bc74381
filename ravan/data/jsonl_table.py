"""JSON Lines: one object a line."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

from ravan.data.cells import Cell, Outcomes, missing_column, typed_cells
from ravan.data.encodings import OpenBytes, settle_encoding
from ravan.data.source import DataSource, unreadable
from ravan.errors import DataError


def jsonl_rows(source: DataSource, wanted: Sequence[str], open_bytes: OpenBytes) -> Outcomes:
    """Yield the rows of a table; raise DataError DATA_UNREADABLE, OSError from opening it."""
    codec = settle_encoding(source.name, open_bytes, source.encoding)
    with io.TextIOWrapper(open_bytes(), encoding=codec, newline="") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _cells(source, number, line, wanted)


def _cells(source: DataSource, number: int, line: str, wanted: Sequence[str]) -> Mapping[str, Cell] | DataError:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return unreadable(f"{source.place(number)} is no JSON object.", "Write one JSON object on each line.")
    absent = next((column for column in wanted if column not in value), None)
    if absent is not None:
        return missing_column(source, absent, [str(key) for key in value], number)
    return typed_cells(source.place(number), wanted, [value[column] for column in wanted])
