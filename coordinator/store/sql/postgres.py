"""PostgreSQL through psycopg 3: the same tables on a server, shared by the processes of one coordinator.

Imported only where the configuration names such a database, and only then is psycopg.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from coordinator.store.sql.database import Access, PostgresAddress
from ravan.errors import ConfigError, ErrorReason, ResourceError

PATIENCE_S: Final = 30.0
"""How long a transaction waits for a server that restarts, before its caller hears of it."""

_PAUSE_S: Final = 0.2
_HOLD: Final = 0x526176616E
"""Key of the advisory lock of all who work with a database, "Ravan" in ASCII: shared, or one's own to change tables."""

_TURN: Final = _HOLD + 1
"""Key of the advisory lock that a transaction holds until its end: one at a time, as with a file."""

_FREEZE_S: Final = 20
"""How long a process may stand still in a transaction before the server ends it, so that others get their turn."""

_TRIES: Final = 25
"""Attempts to share a database that somebody has alone, as the first to start has while it makes the tables."""

_CONNECT: Final = {
    "connect_timeout": 5,
    # A line that was cut without a word is noticed within a minute, here and at the server, which then lifts the lock.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "options": "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
    f" -c idle_in_transaction_session_timeout={_FREEZE_S}s",
    "application_name": "ravan-coordinator",
}


class PostgresDatabase:
    """A database at a PostgreSQL server; see `coordinator.store.sql.database.Database`.

    Its connection holds a lock for as long as it stands, shared with others or alone. Transactions that write take
    turns, whichever process they are of.
    """

    def __init__(self, address: PostgresAddress, access: Access = Access.ALONE) -> None:
        """Connect at the first transaction.

        Raises ConfigError when psycopg is not installed or the address is none.
        """
        self._shown = address.url
        self._access = access
        self._patience_s = 0.0
        self._admitting = False
        self.is_alone = False
        snapshot = {"isolation_level": "REPEATABLE READ"} if access is Access.READING else {}
        self._engine = create_engine(
            _driver_url(address),
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=dict(_CONNECT),
            **snapshot,
        )
        if access is not Access.READING:
            event.listen(self._engine, "connect", self._hold)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction; roll back when it raises.

        Once a first one has succeeded, later ones wait up to `PATIENCE_S` for a server that is not there.
        """
        with self._connect() as connection, connection.begin():
            if self._access is not Access.READING:
                connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
            yield connection
        self._patience_s = PATIENCE_S

    def admit_others(self) -> None:
        """Share the lock from now on, where the database was opened to be shared."""
        if self._access is not Access.SHARING:
            return
        self._admitting = True
        if self.is_alone:
            with self._connect() as connection, connection.begin():
                connection.execute(text("SELECT pg_advisory_lock_shared(:hold)"), {"hold": _HOLD})
                connection.execute(text("SELECT pg_advisory_unlock(:hold)"), {"hold": _HOLD})
            self.is_alone = False

    def explain(self, error: DBAPIError) -> Exception:
        """Return a sentence for a full disk at the server and for a server that refuses or does not answer."""
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == "53100":
            return ResourceError(
                f"The disk of the database server {self._shown} is full.",
                reason=ErrorReason.DISK_FULL,
                next_step="Free space or enlarge the disk there, then try again; nothing that was stored is lost.",
            )
        if isinstance(error, OperationalError) or error.connection_invalidated:
            return ResourceError(
                f"The database {self._shown} cannot be reached or refuses: {_first_line(error)}.",
                reason=ErrorReason.UNREACHABLE,
                next_step="Check that the server runs, and [database] in coordinator.toml with its password file.",
            )
        return error

    def size_bytes(self) -> int:
        """Return what the server says."""
        with self.begin() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def close(self) -> None:
        """Hang up, which gives the lock back."""
        self._engine.dispose()

    def _connect(self) -> Connection:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return self._engine.connect()
            except (OperationalError, ResourceError):
                if time.monotonic() >= until:
                    raise
            time.sleep(_PAUSE_S)

    def _hold(self, connection: Any, record: Any) -> None:  # noqa: ARG002 - SQLAlchemy's signature
        """Lock the database alone where nobody works with it, else share it where that is enough."""
        self.is_alone = not self._admitting and _try_lock(connection, "pg_try_advisory_lock")
        held, tries = self.is_alone, _TRIES if self._access is Access.SHARING else 0
        while not held and tries:
            held = _try_lock(connection, "pg_try_advisory_lock_shared")
            tries -= 1
            if not held:
                time.sleep(_PAUSE_S)
        if not held:
            connection.close()
            raise ResourceError(
                f"Another coordinator works on the database {self._shown}.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Stop that one first, or use another database.",
            )


def _try_lock(connection: Any, function: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", (_HOLD,))
        (held,) = cursor.fetchone()
    connection.commit()
    return bool(held)


def _driver_url(address: PostgresAddress) -> URL:
    try:
        import psycopg  # noqa: F401, PLC0415 - only where such a database is configured
    except ImportError as error:
        raise ConfigError(
            "[database] names a PostgreSQL database, and the package that speaks to one is not installed.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Install it: `pip install 'ravan[coordinator,postgres]'`.",
        ) from error
    url = make_url(address.url).set(drivername="postgresql+psycopg")
    return url.set(password=address.password) if address.password else url


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].strip().rstrip(".")
