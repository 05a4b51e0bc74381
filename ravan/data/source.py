"""Where labelled examples lie, and how what is in there is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from ravan.errors import DataError, ErrorReason


class DataKind(StrEnum):
    """What one example is."""

    TEXTS = "texts"
    """A row of a table: a text and its label or answer."""
    IMAGES = "images"
    """An image in the folder that is named like its label, or that a list of labels names."""
    SERIES = "series"
    """A window of rows of a table: numbers of several sensors, and the labels of the rows."""


class TableFormat(StrEnum):
    """How a table is written, or who is asked for it."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Encoding(StrEnum):
    """How the characters of a text file are written."""

    AUTO = "auto"
    """UTF-8, or UTF-16 with a byte order mark; anything else is refused, since bytes do not tell."""
    UTF_8 = "utf-8"
    UTF_16 = "utf-16"
    CP932 = "cp932"
    """Windows in Japan."""
    WINDOWS_1252 = "windows-1252"
    """Windows in Western Europe."""
    LATIN_1 = "latin-1"


class DecimalMark(StrEnum):
    """What stands between a number's whole part and its decimals."""

    POINT = "."
    COMMA = ","


SEPARATORS: Final = (",", ";", "\t")
"""What cells of a CSV table may be separated by, where the source does not say it."""

QUERIES: Final = frozenset({TableFormat.SQLITE, TableFormat.POSTGRESQL})
"""Formats that are asked with a query."""

LINES: Final = frozenset({TableFormat.CSV, TableFormat.JSONL})
"""Formats that an editor shows as lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """One file, folder or query of examples."""

    path: Path = Path()
    """Of the file or folder; a PostgreSQL server has none."""
    name: str
    """What sentences call it, where its path would say nothing to anybody."""
    format: TableFormat = TableFormat.CSV
    """Of tables; images have none."""
    text: str = "text"
    """Column that holds the texts."""
    label: str = "label"
    """Column that holds the labels or answers; empty for `ravan.data.unlabelled`."""
    group: str = ""
    """Column that tells series apart, such as one of the machine; empty where all rows are one series."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of a model's channels, where they are called otherwise than the channels."""
    encoding: Encoding = Encoding.AUTO
    separator: str = ""
    """Between the cells of a CSV table; empty: the one of `SEPARATORS` under which the header has the columns."""
    decimal: DecimalMark = DecimalMark.POINT
    """In numbers that are written as text."""
    query: str = ""
    """What a database is asked; its rows are the table."""
    url: str = ""
    """`postgresql://USER@HOST:PORT/NAME`, without a password."""
    password: str = field(default="", repr=False)
    labels: str = ""
    """Images: CSV file in the folder that names images and their labels; empty: folders are named like labels."""
    file: str = "file"
    """Images: column of that CSV file that names the images."""

    def place(self, number: int) -> str:
        """Return how a sentence begins that is about a row; a file's rows count as an editor counts lines."""
        return f"{self.name}, {'line' if self.format in LINES else 'row'} {number},"


def unreadable(sentence: str, next_step: str) -> DataError:
    """Return the error for examples that cannot be read."""
    return DataError(sentence, reason=ErrorReason.DATA_UNREADABLE, next_step=next_step)


def cannot_open(name: str, error: OSError) -> DataError:
    """Return the error for a file that the system does not open."""
    return unreadable(
        f"{name} cannot be opened: {error.strerror or type(error).__name__}.",
        "Check the path and that the program's user may read it.",
    )


def not_installed(name: str, what: str, extra: str) -> DataError:
    """Return the error for a source that takes an optional package."""
    return unreadable(
        f"{name} is {what}, and the package that reads one is not installed.",
        f"Install it: `pip install 'ravan[{extra}]'`.",
    )


def nothing_to_learn(name: str, what: str) -> DataError:
    """Return the error for a source without one example; `what` is what it has not."""
    return unreadable(f"{name} holds no {what}.", "Check that it is the right file and is not empty.")
