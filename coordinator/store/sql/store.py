"""The database behind one thread: transactions are queued, so writers never meet and readers never wait for locks."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from coordinator.store.base import Transaction
from coordinator.store.sql.schema import upgrade_schema
from coordinator.store.sql.transaction import SqlTransaction
from ravan.disk import disk_full
from ravan.errors import ErrorReason, RavanError, ResourceError

Result = TypeVar("Result")

TransactionHook = Callable[[str, float], None]
"""Told after each transaction, failed ones too: its name and its seconds, queueing included."""

MEMORY: Final = Path(":memory:")
"""Opens a database that vanishes with its store; for tests."""

_BUSY_S: Final = 5.0
"""How long to wait for another program, such as a backup, that holds the file."""


def _ignore_transaction(name: str, seconds: float) -> None:
    """Take note of nothing."""


class SqlStore:
    """A database in one SQLite file; see `coordinator.store.base.Store`."""

    def __init__(self, path: Path, engine: Engine, thread: ThreadPoolExecutor, on_transact: TransactionHook) -> None:
        """Wrap an engine that was opened on `thread`; use `open_store`."""
        self._path = path
        self._engine = engine
        self._thread = thread
        self._on_transact = on_transact

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction on the store's own thread; roll back when it raises.

        A transaction that has begun is finished even when the caller is cancelled. Raises whatever
        `work` raises, and ResourceError (DISK_FULL) when there is no room.
        """
        started = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        finally:
            self._on_transact(name, time.monotonic() - started)

    async def close(self) -> None:
        """Finish what is queued and release the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _run(self, work: Callable[[Transaction], Result]) -> Result:
        try:
            with self._engine.begin() as connection:
                return work(SqlTransaction(connection))
        except DBAPIError as error:
            raise _explained(error, self._path) from error


def open_store(path: Path, on_transact: TransactionHook = _ignore_transaction) -> SqlStore:
    """Open a database, making or upgrading it first; `MEMORY` opens one that is never written to disk.

    Raises StateError (WRONG_STATE) when a newer release has written it, ResourceError (DISK_FULL, or
    NOT_FOUND when it cannot be opened). Blocks: call it before the event loop matters, or in a thread.
    """
    # made on its own thread, where alone it is used: SQLite connections stay with their thread
    thread = ThreadPoolExecutor(1, thread_name_prefix="ravan-store")
    try:
        engine = thread.submit(_open_engine, path).result()
    except BaseException:
        thread.shutdown()
        raise
    return SqlStore(path, engine, thread, on_transact)


def _open_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args={"timeout": _BUSY_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            upgrade_schema(connection)
    except DBAPIError as error:
        engine.dispose()
        raise _explained(error, path) from error
    except RavanError:
        engine.dispose()
        raise
    return engine


def _prepare(connection: sqlite3.Connection, record: Any) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # transactions are begun below; the driver's own habit would leave schema changes outside of them
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _explained(error: DBAPIError, path: Path) -> Exception:
    """Return the error to raise instead: a sentence where there is one to say."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return disk_full(path.parent)
    if code is not None and code & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY}:
        return ResourceError(
            f"The database {path} cannot be opened or written: {error.orig}.",
            reason=ErrorReason.NOT_FOUND,
            next_step="Check that the data folder exists and belongs to the coordinator's user, or restore a backup.",
        )
    return error
