"""A whole database as it is at one moment, in an SQLite file of its own, whatever database it came from or goes to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.exc import DBAPIError

from coordinator.store.base import Transaction
from coordinator.store.sql.database import Access, Database, Place
from coordinator.store.sql.schema import REVISION, revision_of
from coordinator.store.sql.store import connect, open_database
from coordinator.store.sql.tables import ENDURING, METADATA, PASSING
from coordinator.store.sql.transaction import SqlTransaction
from ravan.errors import ErrorReason, StateError

Kept = TypeVar("Kept")
Result = TypeVar("Result")

_ROWS: Final = 500
"""Copied at a time: instructions are some kilobytes each."""


def take_snapshot(place: Place, target: Path) -> None:
    """Copy a database into a new SQLite file; whoever writes to it meanwhile is not held up.

    Raises StateError (WRONG_STATE) when its tables are not this release's, ResourceError as `open_store` does.
    """
    if isinstance(place, Path) and not place.exists():
        raise _not_ours(f"There is no database {place}.")
    source = connect(place, Access.READING)
    try:
        _copy_from(source, target)
    except DBAPIError as error:
        raise source.explain(error) from error
    finally:
        source.close()


def read_records(place: Place, work: Callable[[Transaction], Result]) -> Result:
    """Run `work` on a database that nobody else holds, or a snapshot; its tables are brought up to date first."""
    return _run(open_database(place), work)


def look_into(place: Place, work: Callable[[Transaction], Result]) -> Result:
    """Run `work`, which may only read, on a database as it is at one moment, whoever writes to it meanwhile.

    Raises StateError (WRONG_STATE) when its tables are not this release's, ResourceError as `open_store` does.
    """
    return _beside_others(place, Access.READING, work)


def add_beside(place: Place, work: Callable[[Transaction], Result]) -> Result:
    """Run `work` in one transaction on a database that a daemon may be writing to; raise as `look_into`."""
    return _beside_others(place, Access.SHARING, work)


def _beside_others(place: Place, access: Access, work: Callable[[Transaction], Result]) -> Result:
    if isinstance(place, Path) and not place.exists():
        raise _not_ours(f"There is no database {place}.")

    def checked(transaction: SqlTransaction) -> Result:
        _require_revision(transaction.connection)
        return work(transaction)

    return _run(connect(place, access), checked)


def load_snapshot(
    path: Path,
    place: Place,
    *,
    keep: Callable[[Transaction], Kept],
    keeps_log: Callable[[Transaction, Transaction], bool],
    adjust: Callable[[Transaction, Kept], Result],
) -> Result:
    """Put a snapshot in place of all records, in one transaction: it happens whole or not at all.

    `keep` reads what shall outlive the old records; `keeps_log` tells, from these and the snapshot, whether the old
    audit log stays; `adjust` changes the new records. Raises what they raise, and what `open_store` does.
    """
    target, source = open_database(place), open_database(path)

    def replace(transaction: SqlTransaction) -> Result:
        kept = keep(transaction)
        with source.begin() as reading:
            left = (PASSING, ENDURING) if keeps_log(transaction, SqlTransaction(reading)) else (PASSING,)
            _copy_records(reading, transaction.connection, left)
        return adjust(transaction, kept)

    try:
        return _run(target, replace)
    finally:
        source.close()


def _run(database: Database, work: Callable[[SqlTransaction], Result]) -> Result:
    try:
        with database.begin() as connection:
            return work(SqlTransaction(connection))
    except DBAPIError as error:
        raise database.explain(error) from error
    finally:
        database.close()


def _copy_from(source: Database, path: Path) -> None:
    with source.begin() as reading:
        _require_revision(reading)
        target = open_database(path)
        try:
            with target.begin() as writing:
                _copy_records(reading, writing)
        except DBAPIError as error:
            raise target.explain(error) from error
        finally:
            target.close()


def _require_revision(reading: Connection) -> None:
    revision = revision_of(reading)
    if revision != REVISION:
        raise _not_ours(f"The database is at schema {revision or 'none'}, and this release reads {REVISION}.")


def _copy_records(source: Connection, target: Connection, left: Collection[str] = (PASSING,)) -> None:
    """Replace all rows, but of tables with one of the marks `left`."""
    tables: list[Table] = [table for table in METADATA.sorted_tables if not table.info.keys() & set(left)]
    for table in reversed(tables):
        target.execute(delete(table))
    for table in tables:
        for rows in source.execute(select(table)).mappings().partitions(_ROWS):
            target.execute(insert(table), [dict(row) for row in rows])


def _not_ours(sentence: str) -> StateError:
    return StateError(
        sentence,
        reason=ErrorReason.WRONG_STATE,
        next_step="Use the release that serves it, or stop the daemon and run `ravan-coordinator db upgrade`.",
    )
