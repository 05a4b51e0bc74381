"""Appending to the audit log, within the transaction of whatever is recorded: both are there, or neither."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.audit.chain import (
    START,
    AuditEntry,
    Position,
    SignedAs,
    is_checkpoint_due,
    is_signed,
    next_record,
    sign_head,
)
from coordinator.store.base import Transaction
from ravan.errors import ErrorReason, StateError


@dataclass(frozen=True, slots=True)
class AuditLog:
    """Write with the coordinator's manifest key."""

    key: Ed25519PrivateKey = field(repr=False)

    def append(self, transaction: Transaction, *entries: AuditEntry) -> Position:
        """Record entries in order and return the place of the last; raise StateError where the log was altered."""
        position = self.position(transaction)
        if not entries:
            return position
        at_ms = round(transaction.now() * 1000)
        for entry in entries:
            record = next_record(position, entry, at_ms)
            position = record.position
            transaction.add_audit_record(record)
            if is_checkpoint_due(record):
                transaction.add_audit_checkpoint(sign_head(self.key, SignedAs.CHECKPOINT, position))
        transaction.put_audit_seal(sign_head(self.key, SignedAs.SEAL, position))
        return position

    def position(self, transaction: Transaction) -> Position:
        """Return the newest place; raise StateError (WRONG_STATE) where the seal is gone or not this key's.

        Nothing is appended to a log that somebody else has sealed: our own seal would vouch for what they wrote.
        """
        seal = transaction.get_audit_seal()
        if seal is None:
            if transaction.audit_records_after(0, 1):
                raise _altered("has records and no seal")
            return START
        if not is_signed(seal, SignedAs.SEAL, self.key.public_key()):
            raise _altered("is not sealed with this coordinator's key")
        return Position(sequence=seal.sequence, head=seal.head)


def _altered(how: str) -> StateError:
    return StateError(
        f"The audit log {how}: the database was altered, or the keys in pki/ are another coordinator's.",
        reason=ErrorReason.WRONG_STATE,
        next_step="Keep a copy of the database, run `ravan-coordinator audit verify`, and find out who can write to it."
        " To go on, restore a backup into an empty database.",
    )
