"""The part of a transaction that tells who holds what."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from coordinator.leases.lease import Lease
from coordinator.store.sql import rows
from coordinator.store.sql.tables import LEASES


class LeaseStatements:
    """Leases, and the clock that they go by; see `coordinator.store.base.Transaction`."""

    connection: Connection
    _put: Callable[[Table, rows.Row], None]
    _all: Callable[[Select[Any]], Sequence[rows.Row]]

    def now(self) -> float:
        """Return the server's time; a file has none, and all who use it are on this machine."""
        if self.connection.dialect.name == "sqlite":
            return time.time()
        return float(self.connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def get_lease(self, name: str) -> Lease | None:
        """Return the lease of this name."""
        return next((Lease(**row) for row in self._all(select(LEASES).where(LEASES.c.name == name))), None)

    def put_lease(self, lease: Lease) -> None:
        """Insert or replace by name."""
        self._put(LEASES, asdict(lease))
