"""Rows of a table, wherever it lies, with a sentence for everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Final

from ravan.data.cells import Cell, Outcomes
from ravan.data.csv_table import csv_rows
from ravan.data.encodings import OpenBytes
from ravan.data.jsonl_table import jsonl_rows
from ravan.data.parquet_table import parquet_rows
from ravan.data.postgresql_query import postgresql_rows
from ravan.data.source import DataSource, TableFormat, cannot_open
from ravan.data.sqlite_query import sqlite_rows
from ravan.errors import DataError

Refuse = Callable[[DataError], None]
"""Told what is wrong with one row; when it returns, the row is passed over."""


def raise_refusal(refusal: DataError) -> None:
    """Accept no table with a wrong row."""
    raise refusal


def iterate_rows(
    source: DataSource, columns: Sequence[str], refuse: Refuse = raise_refusal
) -> Iterator[tuple[int, Mapping[str, Cell]]]:
    """Yield (row number, cell by column) for the wanted columns of a table; an editor's line number for text files.

    Raise DataError DATA_UNREADABLE for a table that cannot be read at all, whatever `refuse` does.
    """
    try:
        for number, cells in _outcomes(source, columns):
            if isinstance(cells, DataError):
                refuse(cells)
            else:
                yield number, cells
    except OSError as error:
        raise cannot_open(source.name, error) from None


def _outcomes(source: DataSource, columns: Sequence[str]) -> Outcomes:
    if source.format is TableFormat.POSTGRESQL:
        return postgresql_rows(source, columns)

    def open_bytes() -> BinaryIO:
        return source.path.open("rb")

    # Opened once whatever the format, so that all of them say in the same words why that failed.
    open_bytes().close()
    return _OF_FILES[source.format](source, columns, open_bytes)


_OF_FILES: Final[Mapping[TableFormat, Callable[[DataSource, Sequence[str], OpenBytes], Outcomes]]] = {
    TableFormat.CSV: csv_rows,
    TableFormat.JSONL: jsonl_rows,
    TableFormat.PARQUET: parquet_rows,
    TableFormat.SQLITE: sqlite_rows,
}
