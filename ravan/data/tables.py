"""Labelled texts from a CSV or JSON Lines file, row by row, with a sentence for everything that can be wrong.

CSV is read as spreadsheets write it: UTF-8 with or without a byte order mark, a header row, commas. JSON
Lines holds one object a line. A row without text is left out and counted; a row without a known label is
refused, since a wrong label would be trained in silence.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TextIO

from ravan.errors import DataError, ErrorReason

_SHOWN_CHARACTERS: Final = 40
"""Most characters of a cell that a sentence repeats."""


class TableFormat(StrEnum):
    """How a data file is written."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Labelled texts of one file, in file order."""

    texts: tuple[str, ...]
    label_ids: tuple[int, ...]
    """Position of each text's label in the list of labels."""
    rows_without_text: int
    """Rows left out because their text was blank."""


def read_examples(
    path: Path,
    table_format: TableFormat,
    text_column: str,
    label_column: str,
    labels: Sequence[str],
    *,
    name: str | None = None,
) -> Examples:
    """Read all labelled texts of `path`, which sentences call `name` where its path would say nothing to anybody.

    Raise DataError DATA_UNREADABLE for a file, encoding, column or row that cannot be read or a file without
    examples, and DATA_UNKNOWN_LABEL for a label outside `labels`.
    """
    label_ids = {label: index for index, label in enumerate(labels)}
    texts: list[str] = []
    ids: list[int] = []
    blank = 0
    shown = name or str(path)
    for row, text, label in iterate_rows(path, table_format, text_column, label_column, name=shown):
        if not text.strip():
            blank += 1
            continue
        if label not in label_ids:
            raise _unknown_label(shown, row, label, labels)
        texts.append(text)
        ids.append(label_ids[label])
    if not texts:
        raise no_examples(shown)
    return Examples(texts=tuple(texts), label_ids=tuple(ids), rows_without_text=blank)


def no_examples(name: str) -> DataError:
    """Return the error for a file from which nothing can be learnt."""
    return _unreadable(f"{name} holds no row with a text.", "Check that it is the right file and is not empty.")


def iterate_rows(
    path: Path, table_format: TableFormat, text_column: str, label_column: str, *, name: str
) -> Iterator[tuple[int, str, str]]:
    """Yield (row number as an editor shows it, text, label), neither checked beyond being there."""
    rows = _csv_rows if table_format is TableFormat.CSV else _jsonl_rows
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, cells in rows(name, file, (text_column, label_column)):
                yield number, cells[text_column], cells[label_column].strip()
    except UnicodeDecodeError as error:
        raise _unreadable(
            f"{name} is not UTF-8 text (byte {error.start} of the part that was being read).",
            "Save it as UTF-8; spreadsheets offer 'CSV UTF-8'.",
        ) from None
    except OSError as error:
        raise _unreadable(
            f"{name} cannot be opened: {error.strerror}.",
            "Check the path and that the program's user may read it.",
        ) from None


def _csv_rows(name: str, file: TextIO, wanted: tuple[str, str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise no_examples(name)
        positions = {column: _position(name, header, column) for column in wanted}
        for cells in reader:
            if cells:
                yield reader.line_num, _pick(name, reader.line_num, cells, positions)
    except csv.Error as error:
        raise _unreadable(
            f"{name}, line {reader.line_num}, is no valid CSV: {error}.", "Export the table again as comma-separated."
        ) from None


def _position(name: str, header: list[str], column: str) -> int:
    names = [each.strip() for each in header]
    if column not in names:
        raise _missing_column(name, column, names)
    return names.index(column)


def _pick(name: str, line: int, cells: list[str], positions: Mapping[str, int]) -> dict[str, str]:
    if len(cells) <= max(positions.values()):
        raise _unreadable(
            f"{name}, line {line}, has {len(cells)} cells, fewer than its header.", "Repair or delete that line."
        )
    return {column: cells[position] for column, position in positions.items()}


def _jsonl_rows(name: str, file: TextIO, wanted: tuple[str, str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, _json_cells(name, number, line, wanted)


def _json_cells(name: str, number: int, line: str, wanted: tuple[str, str]) -> dict[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _unreadable(f"{name}, line {number}, is no JSON object.", "Write one JSON object on each line.")
    cells: dict[str, str] = {}
    for column in wanted:
        if column not in value:
            raise _missing_column(name, column, [str(key) for key in value], line=number)
        if not isinstance(value[column], str | int) or isinstance(value[column], bool):
            raise _unreadable(f"{name}, line {number}, has no text in '{column}'.", "Write text in quotes there.")
        cells[column] = str(value[column])
        if any("\ud800" <= character <= "\udfff" for character in cells[column]):
            raise _unreadable(
                f"{name}, line {number}, has half a character in '{column}' (\\ud800 to \\udfff).",
                "Write the text as UTF-8, without escapes.",
            )
    return cells


def _missing_column(name: str, column: str, columns: Sequence[str], line: int = 1) -> DataError:
    shown = ", ".join(_printable(each) for each in columns[:20]) or "none"
    hint = "Name one of these columns in the configuration."
    if len(columns) == 1 and any(separator in columns[0] for separator in ";\t"):
        hint = "The file seems to be separated by semicolons or tabs; export it with commas."
    return _unreadable(f"{name} has no column '{column}' in line {line}; its columns are: {shown}.", hint)


def _unknown_label(name: str, row: int, label: str, labels: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(label, labels, n=1)
    if not label:
        sentence = f"{name}, line {row}, has no label."
    else:
        sentence = f"{name}, line {row}, has the label '{_printable(label)}', which the job does not know."
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return DataError(
        sentence,
        reason=ErrorReason.DATA_UNKNOWN_LABEL,
        next_step=f"{hint}The job's labels are: {', '.join(labels)}. Correct the line or check the label column.",
    )


def _printable(cell: str) -> str:
    """Cut a cell to what a sentence may repeat; control characters would upset the reader's terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cell[:_SHOWN_CHARACTERS])


def _unreadable(sentence: str, next_step: str) -> DataError:
    return DataError(sentence, reason=ErrorReason.DATA_UNREADABLE, next_step=next_step)
