"""The part of a transaction that keeps the audit log; records are added and read, never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, insert, select

from coordinator.audit.chain import AuditRecord, SignedHead
from coordinator.store.sql import rows
from coordinator.store.sql.tables import AUDIT_CHECKPOINTS, AUDIT_RECORDS, AUDIT_SEALS

_NEWEST: Final = "newest"


class AuditStatements:
    """Records, checkpoints and the seal; see `coordinator.store.base.Transaction`."""

    connection: Connection
    _put: Callable[[Table, rows.Row], None]
    _all: Callable[[Select[Any]], Sequence[rows.Row]]

    def add_audit_record(self, record: AuditRecord) -> None:
        """Append; a number that is there already is refused by the database."""
        self.connection.execute(insert(AUDIT_RECORDS), asdict(record))

    def audit_records_after(self, sequence: int, limit: int) -> Sequence[AuditRecord]:
        """Return the next records, by number."""
        columns = AUDIT_RECORDS.c
        later = select(AUDIT_RECORDS).where(columns.sequence > sequence).order_by(columns.sequence).limit(limit)
        return [AuditRecord(**row) for row in self._all(later)]

    def last_audit_record(self, kind: str) -> AuditRecord | None:
        """Return the newest record of a kind."""
        columns = AUDIT_RECORDS.c
        newest = select(AUDIT_RECORDS).where(columns.kind == kind).order_by(columns.sequence.desc()).limit(1)
        return next((AuditRecord(**row) for row in self._all(newest)), None)

    def add_audit_checkpoint(self, checkpoint: SignedHead) -> None:
        """Append; there is one for a number."""
        self.connection.execute(insert(AUDIT_CHECKPOINTS), asdict(checkpoint))

    def list_audit_checkpoints(self) -> Sequence[SignedHead]:
        """Return all checkpoints, by number."""
        found = self._all(select(AUDIT_CHECKPOINTS).order_by(AUDIT_CHECKPOINTS.c.sequence))
        return [SignedHead(**row) for row in found]

    def put_audit_seal(self, seal: SignedHead) -> None:
        """Replace the seal."""
        self._put(AUDIT_SEALS, {"name": _NEWEST, **asdict(seal)})

    def get_audit_seal(self) -> SignedHead | None:
        """Return the seal."""
        columns = AUDIT_SEALS.c
        found = select(columns.sequence, columns.head, columns.signature).where(columns.name == _NEWEST)
        return next((SignedHead(**row) for row in self._all(found)), None)
