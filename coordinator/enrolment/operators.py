"""Operators' certificates: issued beside the authority's key, listed and revoked in a file of the key folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.pki import CA_CERTIFICATE, CA_KEY, read_authority
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Caller, Rank, Role, serial_text
from ravan.identity.keyfiles import make_private_folder, read_private, write_private
from ravan.identity.keys import new_tls_key, private_pem

BOOK: Final = "operators.json"
KEY_FILE: Final = "operator.key"
CERTIFICATE_FILE: Final = "operator.crt"


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


def create_operator(pki: Path, name: str, rank: Rank, *, life: timedelta, out: Path, now: float) -> OperatorRecord:
    """Issue a certificate, and write key, certificate and CA certificate to the folder `out`.

    Raises StateError (ALREADY_EXISTS) where that holds a key, ConfigError for a bad name, IdentityError for keys that
    cannot be read.
    """
    if (out / KEY_FILE).exists():
        raise StateError(
            f"{out} already holds an operator's key.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Name a new folder with --out.",
        )
    authority, key = read_authority(pki / CA_KEY, pki / CA_CERTIFICATE), new_tls_key()
    certificate = issue_client(
        authority, key.public_key(), role=Role.OPERATOR, name=name, now=now, life=life, rank=rank
    )
    record = OperatorRecord(
        name=name,
        rank=rank,
        serial=serial_text(certificate),
        issued_at=now,
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )
    # The book first: a certificate that is not in it could not be revoked by name.
    _write_book(pki, (*read_operators(pki), record))
    make_private_folder(out)
    for file, content in (
        (CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM)),
        (CA_CERTIFICATE, authority.certificate.public_bytes(Encoding.PEM)),
        (KEY_FILE, private_pem(key)),
    ):
        write_private(out / file, content)
    return record


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


def revoke_operator(pki: Path, name: str, *, now: float) -> Sequence[OperatorRecord]:
    """Revoke every certificate of a name, and return those that were good; raise StateError (NOT_FOUND) for none."""
    book = read_operators(pki)
    good = [each for each in book if each.name == name and each.revoked_at is None]
    if not good:
        raise StateError(
            f"There is no operator '{name}' with a certificate that could be revoked.",
            reason=ErrorReason.NOT_FOUND,
            next_step="`ravan-coordinator operator list` names them; of `init`'s own, admin, make a new one with"
            " `ravan-coordinator ca renew`.",
        )
    _write_book(pki, tuple(replace(each, revoked_at=now) if each in good else each for each in book))
    return good


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


def _write_book(pki: Path, records: Sequence[OperatorRecord]) -> None:
    write_private(pki / BOOK, json.dumps([asdict(each) for each in records], indent=1).encode())


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
