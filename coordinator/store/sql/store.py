"""The database behind one thread: transactions are queued, so writers never meet and readers never wait for locks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from coordinator.store.base import Transaction
from coordinator.store.sql.database import Access, Database, Place
from coordinator.store.sql.schema import upgrade_schema
from coordinator.store.sql.sqlite import MEMORY, SqliteDatabase
from coordinator.store.sql.transaction import SqlTransaction
from ravan.errors import RavanError

__all__ = ["MEMORY", "SqlStore", "connect", "open_database", "open_store"]

Result = TypeVar("Result")

TransactionHook = Callable[[str, float], None]
"""Told after each transaction, failed ones too: its name and its seconds, queueing included."""


def _ignore_transaction(name: str, seconds: float) -> None:
    """Take note of nothing."""


class SqlStore:
    """A database and its thread; see `coordinator.store.base.Store`."""

    def __init__(self, database: Database, thread: ThreadPoolExecutor, on_transact: TransactionHook) -> None:
        """Wrap a database that was opened on `thread`; use `open_store`."""
        self._database = database
        self._thread = thread
        self._on_transact = on_transact

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction on the store's own thread; roll back when it raises.

        A transaction that has begun is finished even when the caller is cancelled. Raises whatever
        `work` raises, and ResourceError: DISK_FULL when there is no room, UNREACHABLE when a server is gone.
        """
        started = time.monotonic()
        try:
            return await self._on_thread(lambda: self._run(work))
        finally:
            self._on_transact(name, time.monotonic() - started)

    async def size_bytes(self) -> int:
        """Return how much disk the database takes."""
        return await self._on_thread(self._database.size_bytes)

    async def close(self) -> None:
        """Finish what is queued and release the database."""
        await self._on_thread(self._database.close)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _run(self, work: Callable[[Transaction], Result]) -> Result:
        try:
            with self._database.begin() as connection:
                return work(SqlTransaction(connection))
        except DBAPIError as error:
            raise self._database.explain(error) from error


def open_store(place: Place, on_transact: TransactionHook = _ignore_transaction) -> SqlStore:
    """Open a database, making or upgrading its tables first; `MEMORY` opens one that is never written to disk.

    Others may work with it at the same time. Raises StateError (WRONG_STATE) when a newer release has written it or
    an older one works with it, ResourceError: DISK_FULL, NOT_FOUND when a file cannot be opened, UNREACHABLE when a
    server cannot, WRONG_STATE when it is being restored. Blocks: call it before the event loop matters, or in a thread.
    """
    # made on its own thread, where alone it is used: SQLite connections stay with their thread
    thread = ThreadPoolExecutor(1, thread_name_prefix="ravan-store")
    try:
        database = thread.submit(open_database, place, Access.SHARING).result()
    except BaseException:
        thread.shutdown()
        raise
    return SqlStore(database, thread, on_transact)


def open_database(place: Place, access: Access = Access.ALONE) -> Database:
    """Open a database to write, on the calling thread, with its tables up to date; raises what `open_store` does."""
    database = connect(place, access)
    try:
        with database.begin() as connection:
            upgrade_schema(connection, alone=database.is_alone)
        database.admit_others()
    except DBAPIError as error:
        database.close()
        raise database.explain(error) from error
    except RavanError:
        database.close()
        raise
    return database


def connect(place: Place, access: Access) -> Database:
    """Return the database at a place as it is; nothing is opened before its first transaction."""
    if isinstance(place, Path):
        return SqliteDatabase(place, access)
    from coordinator.store.sql.postgres import PostgresDatabase  # noqa: PLC0415 - only where one is configured

    return PostgresDatabase(place, access)
