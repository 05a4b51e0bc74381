"""The coordinator's key folder: authority, server certificate, manifest key and the operator's certificate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import Authority, create_authority, issue_client, issue_server
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Role, is_issued_by, load_certificate
from ravan.identity.keyfiles import make_private_folder, read_private, write_private
from ravan.identity.keys import (
    new_tls_key,
    private_pem,
    public_info,
    raw_public,
    read_identity_key,
    read_tls_key,
)

ADMIN: Final = "admin"
"""Name of the operator whose certificate `init` writes."""

CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.crt"
SERVER_KEY: Final = "server.key"
SERVER_CERTIFICATE: Final = "server.crt"
MANIFEST_KEY: Final = "manifest.key"
ADMIN_KEY: Final = "admin.key"
ADMIN_CERTIFICATE: Final = "admin.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """All keys and certificates of a coordinator; the PEM fields go to TLS as they are."""

    authority: Authority
    ca_pem: bytes
    server_key: bytes = field(repr=False)
    server_certificate: bytes
    manifest_key: ed25519.Ed25519PrivateKey = field(repr=False)

    @property
    def manifest_public(self) -> bytes:
        """Raw public half of the manifest key, 32 bytes."""
        return raw_public(self.manifest_key)

    @property
    def ca_expires_at(self) -> float:
        """Seconds since the Unix epoch."""
        return self.authority.certificate.not_valid_after_utc.timestamp()

    @property
    def server_expires_at(self) -> float:
        """Seconds since the Unix epoch."""
        return load_certificate(self.server_certificate).not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorIdentity:
    """What an operator's program needs to call the coordinator; all PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    ca_pem: bytes


def create_pki(folder: Path, hosts: Sequence[str], *, now: float) -> Pki:
    """Make all keys and certificates in a new folder, or nothing at all.

    Raises StateError (ALREADY_EXISTS) when the folder exists, ConfigError for a bad host name,
    ResourceError (DISK_FULL).
    """
    if folder.exists():
        raise StateError(
            f"{folder} already holds a coordinator's keys.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Use another folder; replacing these keys would lock out every enrolled site.",
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_private_folder(partial)
    try:
        _write_all(partial, hosts, now)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return load_pki(folder)


def load_pki(folder: Path) -> Pki:
    """Read the folder; raise IdentityError when a file is missing, damaged or of another authority."""
    authority = Authority(
        key=read_tls_key(read_private(folder / CA_KEY)),
        certificate=load_certificate(read_private(folder / CA_CERTIFICATE)),
    )
    pki = Pki(
        authority=authority,
        ca_pem=authority.certificate.public_bytes(Encoding.PEM),
        server_key=read_private(folder / SERVER_KEY),
        server_certificate=read_private(folder / SERVER_CERTIFICATE),
        manifest_key=read_identity_key(read_private(folder / MANIFEST_KEY)),
    )
    server = load_certificate(pki.server_certificate)
    _require_pair(folder / CA_KEY, authority.key.public_key(), authority.certificate)
    _require_pair(folder / SERVER_KEY, read_tls_key(pki.server_key).public_key(), server)
    if not is_issued_by(server, authority.certificate):
        raise _inconsistent(folder / SERVER_CERTIFICATE)
    return pki


def issue_peer(pki: Pki, *, now: float) -> tuple[bytes, bytes]:
    """Return a new key and its certificate, PEM, with which this process calls others of the coordinator."""
    key = new_tls_key()
    certificate = issue_client(pki.authority, key.public_key(), role=Role.COORDINATOR, name="coordinator", now=now)
    return private_pem(key), certificate.public_bytes(Encoding.PEM)


def load_operator(folder: Path) -> OperatorIdentity:
    """Read the administrator's certificate from the key folder."""
    return OperatorIdentity(
        key=read_private(folder / ADMIN_KEY),
        certificate=read_private(folder / ADMIN_CERTIFICATE),
        ca_pem=read_private(folder / CA_CERTIFICATE),
    )


def _write_all(folder: Path, hosts: Sequence[str], now: float) -> None:
    authority = create_authority(now)
    server, admin = new_tls_key(), new_tls_key()
    server_certificate = issue_server(authority, server.public_key(), hosts=hosts, now=now)
    admin_certificate = issue_client(authority, admin.public_key(), role=Role.OPERATOR, name=ADMIN, now=now)
    contents = {
        CA_KEY: private_pem(authority.key),
        CA_CERTIFICATE: authority.certificate.public_bytes(Encoding.PEM),
        SERVER_KEY: private_pem(server),
        SERVER_CERTIFICATE: server_certificate.public_bytes(Encoding.PEM),
        MANIFEST_KEY: private_pem(ed25519.Ed25519PrivateKey.generate()),
        ADMIN_KEY: private_pem(admin),
        ADMIN_CERTIFICATE: admin_certificate.public_bytes(Encoding.PEM),
    }
    for name, content in contents.items():
        write_private(folder / name, content)


def _require_pair(path: Path, key: ec.EllipticCurvePublicKey, certificate: x509.Certificate) -> None:
    if public_info(key) != public_info(certificate.public_key()):
        raise _inconsistent(path)


def _inconsistent(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} does not belong to the other keys in its folder.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the whole folder from one backup.",
    )
