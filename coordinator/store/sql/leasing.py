"""The part of a transaction that tells who holds what: the rounds, and tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, func, select

from coordinator.leases.lease import Lease
from coordinator.store.sql import rows
from coordinator.store.sql.tables import LEASES, TASKS
from coordinator.work.tasks import Task
from ravan.ids import JobId


class LeaseStatements:
    """Leases and tasks, and the clock that they go by; see `coordinator.store.base.Transaction`."""

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

    def get_task(self, task_id: str) -> Task | None:
        """Return the task of this id."""
        return next(map(rows.task_from_row, self._all(select(TASKS).where(TASKS.c.task_id == task_id))), None)

    def put_task(self, task: Task) -> None:
        """Insert or replace by id."""
        self._put(TASKS, rows.task_to_row(task))

    def list_tasks(self) -> Sequence[Task]:
        """Return all tasks, those put first first."""
        return list(map(rows.task_from_row, self._all(select(TASKS).order_by(TASKS.c.put_at, TASKS.c.task_id))))

    def drop_tasks(self, job_id: JobId) -> None:
        """Forget the tasks of a job."""
        self.connection.execute(delete(TASKS).where(TASKS.c.job_id == job_id))
