"""Rows of a CSV or JSON Lines file, with a sentence for everything that can be wrong with one.

CSV is read as spreadsheets write it: UTF-8 with or without a byte order mark, a header row, commas. JSON
Lines holds one object a line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from ravan.data.labels import printable
from ravan.data.source import DataSource, TableFormat, nothing_to_learn, unreadable
from ravan.errors import DataError


def iterate_rows(source: DataSource, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (row number as an editor shows it, cell by column) for the wanted columns of a table.

    Raise DataError DATA_UNREADABLE for a file, encoding, column or row that cannot be read.
    """
    rows = _csv_rows if source.format is TableFormat.CSV else _jsonl_rows
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as file:
            yield from rows(source.name, file, columns)
    except UnicodeDecodeError as error:
        raise unreadable(
            f"{source.name} is not UTF-8 text (byte {error.start} of the part that was being read).",
            "Save it as UTF-8; spreadsheets offer 'CSV UTF-8'.",
        ) from None
    except OSError as error:
        raise unreadable(
            f"{source.name} cannot be opened: {error.strerror}.",
            "Check the path and that the program's user may read it.",
        ) from None


def _csv_rows(name: str, file: TextIO, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise nothing_to_learn(name, "row")
        positions = {column: _position(name, header, column) for column in wanted}
        for cells in reader:
            if cells:
                yield reader.line_num, _pick(name, reader.line_num, cells, positions)
    except csv.Error as error:
        raise unreadable(
            f"{name}, line {reader.line_num}, is no valid CSV: {error}.", "Export the table again as comma-separated."
        ) from None


def _position(name: str, header: list[str], column: str) -> int:
    names = [each.strip() for each in header]
    if column not in names:
        raise _missing_column(name, column, names)
    return names.index(column)


def _pick(name: str, line: int, cells: list[str], positions: Mapping[str, int]) -> dict[str, str]:
    if len(cells) <= max(positions.values()):
        raise unreadable(
            f"{name}, line {line}, has {len(cells)} cells, fewer than its header.", "Repair or delete that line."
        )
    return {column: cells[position] for column, position in positions.items()}


def _jsonl_rows(name: str, file: TextIO, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, _json_cells(name, number, line, wanted)


def _json_cells(name: str, number: int, line: str, wanted: Sequence[str]) -> dict[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise unreadable(f"{name}, line {number}, is no JSON object.", "Write one JSON object on each line.")
    cells: dict[str, str] = {}
    for column in wanted:
        if column not in value:
            raise _missing_column(name, column, [str(key) for key in value], line=number)
        if not isinstance(value[column], str | int | float) or isinstance(value[column], bool):
            raise unreadable(f"{name}, line {number}, has no text in '{column}'.", "Write text in quotes there.")
        cells[column] = str(value[column])
        if any("\ud800" <= character <= "\udfff" for character in cells[column]):
            raise unreadable(
                f"{name}, line {number}, has half a character in '{column}' (\\ud800 to \\udfff).",
                "Write the text as UTF-8, without escapes.",
            )
    return cells


def _missing_column(name: str, column: str, columns: Sequence[str], line: int = 1) -> DataError:
    shown = ", ".join(printable(each) for each in columns[:20]) or "none"
    hint = "Name one of these columns in the configuration."
    if len(columns) == 1 and any(separator in columns[0] for separator in ";\t"):
        hint = "The file seems to be separated by semicolons or tabs; export it with commas."
    return unreadable(f"{name} has no column '{column}' in line {line}; its columns are: {shown}.", hint)
