"""What a daemon records as it starts: itself, and its configuration where that is another than at the last start."""

from __future__ import annotations

import json

from coordinator.audit.chain import AuditKind
from coordinator.audit.entries import configuration_changed, daemon_started
from coordinator.audit.log import AuditLog
from coordinator.store.base import Transaction
from ravan.ids import Digest


def record_start(
    transaction: Transaction, audit: AuditLog, *, version: str, process: str, configuration: Digest
) -> None:
    """Append the start; raise StateError (WRONG_STATE) where the log was altered."""
    audit.append(transaction, daemon_started(version, process))
    changed = configuration_changed(configuration)
    before = transaction.last_audit_record(AuditKind.CONFIGURED)
    if before is None or _facts_of(before.facts) != changed.facts:
        audit.append(transaction, changed)


def _facts_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
