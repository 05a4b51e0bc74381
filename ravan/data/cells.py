"""What stands in one cell of a table, whichever way the table came here."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ravan.data.labels import printable
from ravan.data.source import LINES, DataSource, DecimalMark, unreadable
from ravan.errors import DataError

Cell = str | int | float | decimal.Decimal
"""Text, or a number where the format has numbers; nothing at all is the empty text."""

Outcome = tuple[int, Mapping[str, Cell] | DataError]
"""A row's number with the wanted cells by column, or with what is wrong with that row."""

Outcomes = Iterator[Outcome]

_TEXTUAL: Final = (datetime.date, datetime.time, uuid.UUID)
_LARGEST: Final = float(np.finfo(np.float32).max)
_COMMA_NUMBER: Final = re.compile(r"\s*[+-]?\d*,?\d*([eE][+-]?\d+)?\s*", re.ASCII)


def text_of(cell: Cell) -> str:
    """Return a cell as the text that it would be in a CSV file."""
    return cell if isinstance(cell, str) else str(cell)


def number_of(cell: Cell, mark: DecimalMark) -> float:
    """Return a cell as a number that float32 holds; NaN when it is none."""
    if isinstance(cell, str) and mark is DecimalMark.COMMA:
        # A point between digits may group thousands or be meant as the decimal mark; neither is guessed.
        cell = cell.replace(",", ".") if _COMMA_NUMBER.fullmatch(cell) else ""
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) and abs(value) <= _LARGEST else math.nan


def typed_cells(place: str, columns: Sequence[str], values: Sequence[object]) -> Mapping[str, Cell] | DataError:
    """Return values of a format that has types as cells, or what is wrong with the first that is neither."""
    cells: dict[str, Cell] = {}
    for column, value in zip(columns, values, strict=True):
        cell = _typed_cell(value)
        if cell is None:
            return unreadable(f"{place} has no text or number in '{column}'.", "Write text or a number there.")
        if isinstance(cell, str) and not _is_whole(cell):
            return unreadable(
                f"{place} has half a character in '{column}' (\\ud800 to \\udfff).",
                "Write the text as UTF-8, without escapes.",
            )
        cells[column] = cell
    return cells


def _is_whole(text: str) -> bool:
    """Return whether text has no half of a character, as escapes in JSON can bring about."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _typed_cell(value: object) -> Cell | None:
    if value is None:
        return ""
    if isinstance(value, bool):
        return None
    if isinstance(value, Cell):
        return value
    return str(value) if isinstance(value, _TEXTUAL) else None


def find_columns(source: DataSource, header: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where the wanted columns stand; raise DataError for one that is missing or there twice."""
    positions = []
    for column in wanted:
        if column not in header:
            raise missing_column(source, column, header, line=1)
        if header.count(column) > 1:
            raise unreadable(f"{source.name} has more than one column '{column}'.", "Rename all but one of them.")
        positions.append(header.index(column))
    return positions


def missing_column(source: DataSource, column: str, header: Sequence[str], line: int) -> DataError:
    """Return the error for a column that is not among those that `line` names."""
    shown = ", ".join(printable(each) for each in header[:20]) or "none"
    where = f" in line {line}" if source.format in LINES else ""
    return unreadable(
        f"{source.name} has no column '{column}'{where}; its columns are: {shown}.",
        "Name one of these columns in the configuration.",
    )
