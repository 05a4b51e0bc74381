"""Rows that a query finds in an SQLite file; nothing is ever written there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from ravan.data.cells import Outcomes, find_columns, typed_cells
from ravan.data.encodings import OpenBytes
from ravan.data.labels import printable
from ravan.data.source import DataSource, unreadable

_PATIENCE_S: Final = 10.0
"""How long a writer is waited for."""
_SHOWN: Final = 200
"""Most characters of what the library says."""
_READING: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)


def sqlite_rows(source: DataSource, wanted: Sequence[str], _: OpenBytes) -> Outcomes:
    """Yield the rows that the query finds; raise DataError DATA_UNREADABLE."""
    try:
        with closing(_connect(source)) as connection:
            cursor = connection.execute(source.query)
            header = [each[0] for each in cursor.description or ()]
            positions = find_columns(source, header, wanted)
            for number, values in enumerate(cursor, start=1):
                yield number, typed_cells(source.place(number), wanted, [values[at] for at in positions])
    # Names of columns that are not UTF-8 surface as UnicodeDecodeError.
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:
        raise unreadable(
            f"{source.name} does not answer the query: {printable(str(error), _SHOWN)}.",
            "Check that it is an SQLite file, try the query in another program, and write a single SELECT.",
        ) from None


def _connect(source: DataSource) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{source.path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)
    # The file is opened for reading; this keeps a query from attaching another one.
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
    return connection
