"""The audit chain: each head is a hash of the head before and of all that the record says. Pure.

The coordinator's manifest key signs the newest head, the *seal*, with every record, and some heads for good, the
*checkpoints*. Each signature has a label of its own: a checkpoint cannot stand for an older seal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ravan.identity.statements import sha256, statement

CHECKPOINT_EVERY: Final = 256
"""Records from one checkpoint to the next, where no round is committed in between."""

_RECORD: Final = b"ravan/v1/audit-record"
_MALFORMED: Final = (TypeError, ValueError, OverflowError, AttributeError)
"""What values raise that a program of ours has not written; an SQLite column takes any."""

Fact = str | int | Sequence[str] | Sequence[int] | Mapping[str, str]
"""A name, a number or a digest, or several: never data, never a secret."""


class AuditKind(StrEnum):
    """What happened."""

    STARTED = "started"
    CONFIGURED = "configured"
    RESTORED = "restored"
    TOKEN_CREATED = "token_created"  # noqa: S105 - the name of an event
    ENROLLED = "enrolled"
    CERTIFICATE_RENEWED = "certificate_renewed"
    REVOKED = "revoked"
    ENDORSED = "endorsed"
    OPERATOR_CREATED = "operator_created"
    OPERATOR_REVOKED = "operator_revoked"
    MODEL_ADDED = "model_added"
    JOB_SUBMITTED = "job_submitted"
    JOB_PAUSED = "job_paused"
    JOB_RESUMED = "job_resumed"
    JOB_ENDED = "job_ended"
    ROUND_OPENED = "round_opened"
    ROSTER_SIGNED = "roster_signed"
    SURVIVORS_CHOSEN = "survivors_chosen"
    ROUND_COMMITTED = "round_committed"
    ROUND_ENDED = "round_ended"
    EXPORTED = "exported"
    CALL_DENIED = "call_denied"


class SignedAs(StrEnum):
    """What a signed head is; the value is the label of the signature."""

    CHECKPOINT = "ravan/v1/audit-checkpoint"
    SEAL = "ravan/v1/audit-seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something to be recorded."""

    kind: AuditKind
    actor: str
    """Who did it; see `coordinator.audit.entries`."""
    subject: str
    """The site, job or model that it was done to; empty for the coordinator itself."""
    facts: Mapping[str, Fact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the chain."""

    sequence: int
    head: str
    """SHA-256, hexadecimal."""


START: Final = Position(sequence=0, head="00" * 32)
"""Before the first record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One record as it is stored; whatever a database returns may stand in the fields."""

    sequence: int
    """From 1, without gaps."""
    at_ms: int
    """Milliseconds since the Unix epoch, by the database's clock."""
    kind: str
    actor: str
    subject: str
    facts: str
    """JSON object, keys sorted, without spaces."""
    head: str

    @property
    def position(self) -> Position:
        """Return the chain's place after this record."""
        return Position(sequence=self.sequence, head=self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A checkpoint or the seal."""

    sequence: int
    head: str
    signature: str
    """Ed25519, hexadecimal."""


def next_record(before: Position, entry: AuditEntry, at_ms: int) -> AuditRecord:
    """Return the record of an entry behind a place in the chain."""
    facts = json.dumps(entry.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    record = AuditRecord(
        sequence=before.sequence + 1,
        at_ms=at_ms,
        kind=entry.kind.value,
        actor=entry.actor,
        subject=entry.subject,
        facts=facts,
        head="",
    )
    return AuditRecord(
        sequence=record.sequence,
        at_ms=at_ms,
        kind=record.kind,
        actor=record.actor,
        subject=record.subject,
        facts=facts,
        head=_head_of(before.head, record),
    )


def follows(record: AuditRecord, head_before: str) -> bool:
    """Tell whether a record's head is what it says, hashed behind the head before."""
    try:
        return record.head == _head_of(head_before, record)
    except _MALFORMED:
        return False


def is_checkpoint_due(record: AuditRecord) -> bool:
    """Tell whether the head of this record is signed for good."""
    return record.sequence % CHECKPOINT_EVERY == 0 or record.kind == AuditKind.ROUND_COMMITTED


def sign_head(key: Ed25519PrivateKey, label: SignedAs, position: Position) -> SignedHead:
    """Sign a place in the chain."""
    signature = key.sign(_signed_bytes(label, position))
    return SignedHead(sequence=position.sequence, head=position.head, signature=signature.hex())


def is_signed(signed: SignedHead, label: SignedAs, key: Ed25519PublicKey) -> bool:
    """Tell whether the signature is by this key, for this label."""
    try:
        position = Position(sequence=signed.sequence, head=signed.head)
        signature = bytes.fromhex(signed.signature)
        key.verify(signature, _signed_bytes(label, position))
    except (InvalidSignature, *_MALFORMED):
        return False
    return signature.hex() == signed.signature


def _head_of(before: str, record: AuditRecord) -> str:
    parts = (record.kind, record.actor, record.subject, record.facts)
    said = statement(
        _RECORD,
        bytes.fromhex(before),
        _number(record.sequence),
        _number(record.at_ms),
        *(part.encode() for part in parts),
    )
    return sha256(said).hex()


def _signed_bytes(label: SignedAs, position: Position) -> bytes:
    return statement(label.value.encode(), _number(position.sequence), bytes.fromhex(position.head))


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
