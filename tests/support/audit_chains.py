"""Audit chains as lists, as they are written, and written anew by somebody with or without the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.audit.chain import (
    START,
    AuditEntry,
    AuditKind,
    AuditRecord,
    Position,
    SignedAs,
    SignedHead,
    is_checkpoint_due,
    next_record,
    sign_head,
)
from coordinator.audit.verification import Verdict, Verifier

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)


@dataclass(frozen=True)
class Chain:
    """All that a database holds of a log."""

    records: tuple[AuditRecord, ...]
    checkpoints: tuple[SignedHead, ...]
    seal: SignedHead | None

    def check(self, witnessed: Sequence[Position] = ()) -> Verdict:
        verifier = Verifier(KEY.public_key(), seal=self.seal, checkpoints=self.checkpoints, witnessed=witnessed)
        for record in self.records:
            verifier.take(record)
        return verifier.conclude()

    def with_records(self, records: Sequence[AuditRecord]) -> Chain:
        return replace(self, records=tuple(records))


def entry(number: int, kind: AuditKind = AuditKind.ENROLLED) -> AuditEntry:
    return AuditEntry(kind=kind, actor=f"operator:admin:{number:x}", subject="plant-a", facts={"round": number})


def write_chain(entries: Sequence[AuditEntry], key: Ed25519PrivateKey = KEY) -> Chain:
    """Write a log as the coordinator does."""
    records: list[AuditRecord] = []
    position = START
    for number, each in enumerate(entries):
        records.append(next_record(position, each, 1_700_000_000_000 + number))
        position = records[-1].position
    due = [record.position for record in records if is_checkpoint_due(record)]
    return Chain(
        records=tuple(records),
        checkpoints=tuple(sign_head(key, SignedAs.CHECKPOINT, each) for each in due),
        seal=sign_head(key, SignedAs.SEAL, position),
    )


def ordinary_chain(length: int, committed_every: int = 5) -> Chain:
    """Write a log in which a round is committed now and then."""
    kinds = (AuditKind.ENROLLED, AuditKind.ROUND_COMMITTED)
    return write_chain([entry(n, kinds[n % committed_every == 0]) for n in range(1, length + 1)])
