"""Rows that a query finds at a PostgreSQL server, in a transaction that may not write.

psycopg is imported where such a server is configured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ravan.data.cells import Outcomes, find_columns, typed_cells
from ravan.data.labels import printable
from ravan.data.source import DataSource, not_installed, unreadable
from ravan.errors import DataError

if TYPE_CHECKING:
    import psycopg

_CONNECT_S: Final = 10
_STATEMENT_S: Final = 300
"""How long the server may work on the query, or on the next rows of it."""
_FETCHED: Final = 2000
"""Rows that come at a time."""
_SHOWN: Final = 200
"""Most characters of what the server says."""


def postgresql_rows(source: DataSource, wanted: Sequence[str]) -> Outcomes:
    """Yield the rows that the query finds; raise DataError DATA_UNREADABLE."""
    with _transaction(source) as connection, connection.cursor(name="ravan") as cursor:
        cursor.itersize = _FETCHED
        cursor.execute(_statement(source))
        positions = find_columns(source, [each.name for each in cursor.description or ()], wanted)
        for number, values in enumerate(cursor, start=1):
            yield number, typed_cells(source.place(number), wanted, [values[at] for at in positions])


def fingerprint_query(source: DataSource) -> tuple[int, int]:
    """Return how many rows the query finds and a sum over hashes of them, both computed by the server.

    Raise DataError DATA_UNREADABLE. Rows in another order have the same sum.
    """
    # On lines of its own: the query may end in a comment.
    question = b"SELECT count(*), coalesce(sum(hashtextextended(each::text, 0)), 0) FROM (\n%b\n) AS each"
    with _transaction(source) as connection:
        count, total = connection.execute(question % _statement(source)).fetchone() or (0, 0)
    return int(count), int(total)


@contextmanager
def _transaction(source: DataSource) -> Iterator[psycopg.Connection[Any]]:
    try:
        import psycopg  # noqa: PLC0415 - see above
    except ImportError:
        raise not_installed(source.name, "a table at a PostgreSQL server", "edge,postgres") from None
    try:
        with psycopg.connect(
            source.url,
            password=source.password or None,
            connect_timeout=_CONNECT_S,
            application_name="ravan-agent",
            client_encoding="utf8",
        ) as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_S}s'".encode())
            yield connection
    except psycopg.Error as error:
        raise _refusal(source, error) from None


def _statement(source: DataSource) -> bytes:
    return source.query.strip().rstrip(";").encode()


def _refusal(source: DataSource, error: psycopg.Error) -> DataError:
    words = str(error).strip().splitlines() or [type(error).__name__]
    said = printable(words[0], _SHOWN).rstrip(".")
    if error.sqlstate is None:
        return unreadable(
            f"{source.name} cannot be reached or refuses: {said}.",
            "Check that the server runs, and url, password_file or password_variable.",
        )
    return unreadable(
        f"{source.name} does not answer the query: {said}.",
        "Check the query in another program, with the same user; it may only read.",
    )
