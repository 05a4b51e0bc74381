"""Reading the stored audit log: all of it through the verifier, or the records of a period, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.audit.chain import AuditRecord, Position
from coordinator.audit.selection import PAGE, records_after
from coordinator.audit.verification import Verdict, Verifier
from coordinator.store.base import Transaction
from ravan.errors import DataError, ErrorReason

Progress = Callable[[int, int], None]
"""Told how many records are done, and how many the seal counts."""


def iterate_records(transaction: Transaction, progress: Progress) -> Iterator[AuditRecord]:
    """Yield all records by number."""
    seal = transaction.get_audit_seal()
    total = 0 if seal is None else seal.sequence
    done = 0
    for done, record in enumerate(records_after(transaction, _BEFORE_ALL), start=1):
        yield record
        if done % PAGE == 0:
            progress(done, total)
    if done % PAGE:
        progress(done, total)


def verify_log(
    transaction: Transaction, key: Ed25519PublicKey, witnessed: Sequence[Position], progress: Progress
) -> Verdict:
    """Check the whole log against the coordinator's public manifest key, and against what witnesses saw."""
    verifier = Verifier(
        key,
        seal=transaction.get_audit_seal(),
        checkpoints=transaction.list_audit_checkpoints(),
        witnessed=witnessed,
    )
    for record in iterate_records(transaction, progress):
        verifier.take(record)
    return verifier.conclude()


def read_witness(content: bytes, source: str) -> tuple[Position, ...]:
    """Read what `ravan-agent audit --json` prints; of it only `heads` counts, with `sequence` and `head` of each.

    Raises DataError (DATA_UNREADABLE) for anything else, and for a file without heads, which would prove nothing.
    """
    try:
        heads: Any = json.loads(content)["heads"]
        found = tuple(Position(sequence=_counted(each["sequence"]), head=_hash(each["head"])) for each in heads)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_witness(f"{source} is no witness file") from error
    if not found:
        raise _no_witness(f"{source} holds no heads")
    return found


def _counted(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError
    return value


def _hash(value: str) -> str:
    raw = bytes.fromhex(value)
    if len(raw) != 32:
        raise ValueError
    return raw.hex()


def _no_witness(sentence: str) -> DataError:
    return DataError(
        f"{sentence}.",
        reason=ErrorReason.DATA_UNREADABLE,
        next_step="Have a site write one: `ravan-agent audit --json > witness.json`, after a round has ended there.",
    )


_BEFORE_ALL: Final = -(1 << 62)
"""A record with a number below 1 is one that somebody has written into the log."""
