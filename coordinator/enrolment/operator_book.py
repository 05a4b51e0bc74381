"""The book of operators' certificates: which were issued, and which of them are revoked; a file of the key folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Caller, Rank, serial_text
from ravan.identity.keyfiles import read_private, write_private

BOOK: Final = "operators.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord:
    """One certificate that was issued."""

    name: str
    rank: Rank
    serial: str
    """Lower-case hexadecimal."""
    issued_at: float
    expires_at: float
    """Seconds since the Unix epoch."""
    revoked_at: float | None = None


def read_operators(pki: Path) -> tuple[OperatorRecord, ...]:
    """Return what was issued, oldest first; raise IdentityError (MALFORMED) for a book that cannot be read."""
    path = pki / BOOK
    if not path.exists():
        return ()
    try:
        entries = json.loads(read_private(path))
        if not isinstance(entries, list):
            raise ValueError("no list")
        return tuple(map(_record_of, entries))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IdentityError(
            f"{path} cannot be read: it is no list of operators.",
            reason=ErrorReason.MALFORMED,
            next_step="Restore it from a backup of the folder; until then nobody can be revoked.",
        ) from error


def write_book(pki: Path, records: Sequence[OperatorRecord]) -> None:
    """Put these records in place of what the book says."""
    write_private(pki / BOOK, json.dumps([asdict(each) for each in records], indent=1).encode())


def enter_operator(pki: Path, name: str, rank: Rank, certificate: x509.Certificate, *, now: float) -> OperatorRecord:
    """Enter a certificate before anybody gets it: one that is not in the book cannot be revoked.

    Raises IdentityError (MALFORMED) for a book that cannot be read.
    """
    record = OperatorRecord(
        name=name,
        rank=rank,
        serial=serial_text(certificate),
        issued_at=now,
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )
    write_book(pki, (*read_operators(pki), record))
    return record


class RevokedOperators:
    """Serial numbers that were revoked, as the book says now: it is looked at whenever somebody calls."""

    def __init__(self, pki: Path) -> None:
        self._pki = pki
        self._lock = threading.Lock()
        self._mark: tuple[int, int] | None = None
        self._serials: frozenset[str] = frozenset()

    def include(self, caller: Caller) -> bool:
        """Tell whether this caller's certificate was revoked; raise IdentityError where the book cannot be read."""
        with self._lock:
            mark = _mark_of(self._pki / BOOK)
            if mark != self._mark:
                records = read_operators(self._pki)
                self._serials = frozenset(each.serial for each in records if each.revoked_at is not None)
                self._mark = mark
            return caller.serial in self._serials


def _mark_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _record_of(entry: dict[str, Any]) -> OperatorRecord:
    revoked_at = entry["revoked_at"]
    return OperatorRecord(
        name=str(entry["name"]),
        rank=Rank(entry["rank"]),
        serial=str(entry["serial"]),
        issued_at=float(entry["issued_at"]),
        expires_at=float(entry["expires_at"]),
        revoked_at=None if revoked_at is None else float(revoked_at),
    )
