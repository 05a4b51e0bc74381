"""SQLite: one file in WAL mode, synchronised at every commit."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from coordinator.store.sql.database import Access
from ravan.disk import disk_full
from ravan.errors import ErrorReason, ResourceError

MEMORY: Final = Path(":memory:")
"""Opens a database that vanishes with its store; for tests."""

_BUSY_S: Final = 5.0
"""How long to wait for another program, such as a backup, that holds the file."""

_LOG_BYTES: Final = 64 << 10
"""What opening a database needs for its log's index, and a little more."""

_CANNOT_OPEN: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY})


class SqliteDatabase:
    """An SQLite file; see `coordinator.store.sql.database.Database`."""

    is_alone = True
    """Whoever may change a file's tables holds the data folder."""

    def __init__(self, path: Path, access: Access = Access.ALONE) -> None:
        """Connect at the first transaction."""
        self._path = path
        # Else two transactions that both read first could not both write.
        self._begin = "BEGIN" if access is Access.READING else "BEGIN IMMEDIATE"
        self._engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args={"timeout": _BUSY_S})
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", self._open_transaction)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction; roll back when it raises."""
        with self._engine.begin() as connection:
            yield connection

    def explain(self, error: DBAPIError) -> Exception:
        """Return a sentence for a full disk and for a file that is no database."""
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is not None and self._ran_full(code & 0xFF):
            return disk_full(self._path.parent)
        if code is not None and code & 0xFF in _CANNOT_OPEN:
            return ResourceError(
                f"The database {self._path} cannot be opened or written: {error.orig}.",
                reason=ErrorReason.NOT_FOUND,
                next_step="Check that the data folder exists and belongs to the coordinator's user. If the file is"
                " damaged, move it away and put a backup back with `ravan-coordinator db restore FILE`.",
            )
        return error

    def _ran_full(self, code: int) -> bool:
        if code == sqlite3.SQLITE_IOERR:
            # What is mapped into memory and finds no room is an input error to SQLite.
            return shutil.disk_usage(self._path.parent).free < _LOG_BYTES
        return code == sqlite3.SQLITE_FULL

    def size_bytes(self) -> int:
        """Return the size of the file and of its log."""
        names = (self._path.name, f"{self._path.name}-wal", f"{self._path.name}-shm")
        files = (self._path.with_name(name) for name in names)
        return sum(file.stat().st_size for file in files if file.is_file())

    def admit_others(self) -> None:
        """Let others in; nothing kept them out."""

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _open_transaction(self, connection: Connection) -> None:
        connection.exec_driver_sql(self._begin)


def _prepare(connection: sqlite3.Connection, record: Any) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # transactions are begun by the listener above; the driver's own habit would leave schema changes outside of them
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()
