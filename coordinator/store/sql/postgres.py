"""PostgreSQL through psycopg 3: the same tables on a server, held by one coordinator at a time.

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

from coordinator.store.sql.database import PostgresAddress
from ravan.errors import ConfigError, ErrorReason, ResourceError

PATIENCE_S: Final = 30.0
"""How long a transaction waits for a server that restarts, before its caller hears of it."""

_PAUSE_S: Final = 0.2
_HOLD: Final = 0x526176616E
"""Key of the advisory lock that a coordinator's connection holds: "Ravan" in ASCII."""

_CONNECT: Final = {
    "connect_timeout": 5,
    # A line that was cut without a word is noticed within a minute, here and at the server, which then lifts the lock.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "options": "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
    "application_name": "ravan-coordinator",
}


class PostgresDatabase:
    """A database at a PostgreSQL server; see `coordinator.store.sql.database.Database`.

    Every transaction runs on the connection that holds the lock, so that a coordinator which has lost it
    cannot write any more.
    """

    def __init__(self, address: PostgresAddress, *, exclusive: bool = True) -> None:
        """Connect at the first transaction; one that is not exclusive reads one snapshot beside a writer.

        Raises ConfigError when psycopg is not installed or the address is none.
        """
        self._shown = address.url
        self._exclusive = exclusive
        self._patience_s = 0.0
        snapshot = {} if exclusive else {"isolation_level": "REPEATABLE READ"}
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
        if exclusive:
            event.listen(self._engine, "connect", self._hold)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction; roll back when it raises.

        Once a first one has succeeded, later ones wait up to `PATIENCE_S` for a server that is not there.
        """
        with self._connect() as connection, connection.begin():
            yield connection
        self._patience_s = PATIENCE_S

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
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_HOLD,))
            (held,) = cursor.fetchone()
        connection.commit()
        if not held:
            connection.close()
            raise ResourceError(
                f"Another coordinator works on the database {self._shown}.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Stop that one first, or use another database.",
            )


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
