"""An open database, whichever it is: transactions, what its errors mean, and how large it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where a PostgreSQL database is."""

    url: str
    """`postgresql://USER@HOST:PORT/NAME`, without a password."""
    password: str = field(default="", repr=False)
    """Empty: libpq looks for one where it always does (PGPASSWORD, PGPASSFILE, `~/.pgpass`)."""


Place = Path | PostgresAddress
"""Where records are kept: an SQLite file or a PostgreSQL database."""


class Access(StrEnum):
    """What a process wants of a database beside others."""

    READING = "reading"
    """One snapshot, whoever else writes."""
    SHARING = "sharing"
    """Read and write, one transaction at a time with all others."""
    ALONE = "alone"
    """Nobody else may work with it; an SQLite file leaves that to the data folder's lock."""


class Database(Protocol):
    """One connection, used by one thread."""

    @property
    def is_alone(self) -> bool:
        """Tell whether nobody else can work with the database now."""
        ...

    def admit_others(self) -> None:
        """Let others work with it from now on, where it was opened to be shared."""
        ...

    def begin(self) -> AbstractContextManager[Connection]:
        """Run the block in one transaction; roll back when it raises."""
        ...

    def explain(self, error: DBAPIError) -> Exception:
        """Return the error to raise instead: a sentence where there is one to say."""
        ...

    def size_bytes(self) -> int:
        """Return how much disk the database takes, at its server where it has one."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...
