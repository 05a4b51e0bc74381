"""Operators' certificates are issued beside the authority's key, and revoked by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import issue_client
from coordinator.enrolment.operator_book import OperatorRecord, enter_operator, read_operators, write_book
from coordinator.enrolment.pki import CA_CERTIFICATE, CA_KEY, read_authority
from ravan.errors import ErrorReason, StateError
from ravan.identity.certificates import Rank, Role
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.identity.keys import new_tls_key, private_pem

KEY_FILE: Final = "operator.key"
CERTIFICATE_FILE: Final = "operator.crt"


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
    record = enter_operator(pki, name, rank, certificate, now=now)
    make_private_folder(out)
    for file, content in (
        (CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM)),
        (CA_CERTIFICATE, authority.certificate.public_bytes(Encoding.PEM)),
        (KEY_FILE, private_pem(key)),
    ):
        write_private(out / file, content)
    return record


def revoke_operator(pki: Path, name: str, *, now: float) -> Sequence[OperatorRecord]:
    """Revoke every certificate of a name, and return those that were good; raise StateError (NOT_FOUND) for none."""
    book = read_operators(pki)
    good = [each for each in book if each.name == name and each.revoked_at is None]
    if not good:
        raise StateError(
            f"There is no operator '{name}' with a certificate that could be revoked.",
            reason=ErrorReason.NOT_FOUND,
            next_step="`ravan-coordinator operator list` names them.",
        )
    write_book(pki, tuple(replace(each, revoked_at=now) if each in good else each for each in book))
    return good
