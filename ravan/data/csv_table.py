"""CSV as spreadsheets write it: a header row, commas, semicolons or tabs, quotes where they are needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ravan.data.cells import Outcomes, find_columns
from ravan.data.encodings import OpenBytes, settle_encoding
from ravan.data.source import SEPARATORS, DataSource, nothing_to_learn, unreadable

_HEAD: Final = 1 << 16
"""Most characters of a header."""


def csv_rows(source: DataSource, wanted: Sequence[str], open_bytes: OpenBytes) -> Outcomes:
    """Yield the rows of a table; raise DataError DATA_UNREADABLE for one that is none, OSError from opening it."""
    codec = settle_encoding(source.name, open_bytes, source.encoding)
    with io.TextIOWrapper(open_bytes(), encoding=codec, newline="") as file:
        separator = source.separator or _separator(file.read(_HEAD), wanted)
        file.seek(0)
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            yield from _rows(source, reader, wanted)
        except csv.Error as error:
            raise unreadable(
                f"{source.name}, line {reader.line_num}, is no valid CSV: {error}.",
                "Export the table again as comma-separated.",
            ) from None


def _rows(source: DataSource, reader: Any, wanted: Sequence[str]) -> Outcomes:
    header = next(reader, None)
    if header is None:
        raise nothing_to_learn(source.name, "row")
    positions = find_columns(source, [each.strip() for each in header], wanted)
    least = max(positions) + 1
    for cells in reader:
        if len(cells) >= least:
            yield reader.line_num, {column: cells[at] for column, at in zip(wanted, positions, strict=True)}
        elif cells:
            yield (
                reader.line_num,
                unreadable(
                    f"{source.place(reader.line_num)} has {len(cells)} cells, fewer than its header.",
                    "Repair or delete that line.",
                ),
            )


def _separator(head: str, wanted: Sequence[str]) -> str:
    """Return what makes the header have most of the wanted columns, and then most columns.

    At most one makes it have them all, unless the header is one column alone: a name between two commas is not between
    two semicolons.
    """
    headers = {each: list(_header(head, each)) for each in SEPARATORS}
    return max(SEPARATORS, key=lambda each: (len(set(wanted) & set(headers[each])), len(headers[each])))


def _header(head: str, separator: str) -> Iterator[str]:
    try:
        # Spaces alone: a tab beside a name may be what separates.
        yield from (
            each.strip(" ") for each in next(csv.reader(io.StringIO(head, newline=""), delimiter=separator), [])
        )
    except csv.Error:
        return
