"""The coordinator's key folder: authority, server certificate, manifest key and the operator's certificate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import Authority, create_authority, issue_client, issue_server
from coordinator.enrolment.operator_book import enter_operator
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import Rank, Role, is_issued_by, load_certificate
from ravan.identity.keyfiles import make_private_folder, read_private, read_secret, write_private
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
NEXT_CA_KEY: Final = "next-ca.key"
NEXT_CA_CERTIFICATE: Final = "next-ca.crt"
OLD_CA_CERTIFICATE: Final = "old-ca.crt"
HAND_OVER: Final = "hand-over.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """A server certificate of the operator's own."""

    certificate: Path
    """PEM, issued by the authority itself."""
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """All keys and certificates of a coordinator; the PEM fields go to TLS as they are."""

    authority: Authority
    ca_pem: bytes
    server_key: bytes = field(repr=False)
    server_certificate: bytes
    manifest_key: ed25519.Ed25519PrivateKey = field(repr=False)
    next_ca: bytes = b""
    """Authority that is being introduced, PEM; empty when there is none."""
    old_ca: bytes = b""
    """Authority whose last certificates are still out, PEM; empty when there is none."""
    hand_over: str = ""
    """From the authority of before to that of after, for sites that trust only the first; empty when there is none."""

    @property
    def trusted_by_sites(self) -> bytes:
        """Authorities that sites are to trust, PEM: the old one has no part in that any more."""
        return self.ca_pem + self.next_ca

    @property
    def trusted_by_server(self) -> bytes:
        """Authorities whose client certificates get through the handshake, PEM."""
        return self.ca_pem + self.next_ca + self.old_ca

    def current(self) -> Pki:
        """Return itself: these keys do not change."""
        return self

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


class Keys(Protocol):
    """Where the keys of now come from; a `Pki` gives itself, a watched folder what lies there."""

    def current(self) -> Pki:
        """Return all keys and certificates as they are now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorIdentity:
    """What an operator's program needs to call the coordinator; all PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    ca_pem: bytes


def create_pki(folder: Path, hosts: Sequence[str], *, now: float, authority: Authority | None = None) -> Pki:
    """Make all keys and certificates in a new folder, or nothing at all; below this authority where one is given.

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
        _write_all(partial, hosts, now, authority or create_authority(now))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return load_pki(folder)


def load_pki(folder: Path, server: ServerFiles | None = None) -> Pki:
    """Read the folder, with the operator's own server certificate where there is one.

    Raises IdentityError when a file is missing, damaged, of another authority, or a key open to others.
    """
    authority = read_authority(folder / CA_KEY, folder / CA_CERTIFICATE)
    files = server_pair(folder, server)
    pki = Pki(
        authority=authority,
        ca_pem=authority.certificate.public_bytes(Encoding.PEM),
        server_key=read_secret(files.key),
        server_certificate=read_private(files.certificate),
        manifest_key=read_identity_key(read_secret(folder / MANIFEST_KEY)),
        next_ca=_read_if_there(folder / NEXT_CA_CERTIFICATE),
        old_ca=_read_if_there(folder / OLD_CA_CERTIFICATE),
        hand_over=_read_if_there(folder / HAND_OVER).decode(errors="replace").strip(),
    )
    certificate = load_certificate(pki.server_certificate)
    _require_pair(files.key, read_tls_key(pki.server_key).public_key(), certificate)
    if not is_issued_by(certificate, authority.certificate):
        raise _inconsistent(files.certificate) if server is None else _foreign(files.certificate, folder)
    return pki


def read_authority(key: Path, certificate: Path) -> Authority:
    """Read an authority; raise IdentityError when a file is missing, damaged or not the other's."""
    authority = Authority(key=read_tls_key(read_secret(key)), certificate=load_certificate(read_private(certificate)))
    _require_pair(key, authority.key.public_key(), authority.certificate)
    return authority


def server_pair(folder: Path, own: ServerFiles | None) -> ServerFiles:
    """Return where the server certificate lies: the operator's own, or the one in this key folder."""
    return own or ServerFiles(certificate=folder / SERVER_CERTIFICATE, key=folder / SERVER_KEY)


def watched_files(folder: Path, server: ServerFiles | None) -> tuple[Path, ...]:
    """Return the files that `load_pki` reads, in a fixed order; some may not exist."""
    names = (CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE, MANIFEST_KEY)
    rolling = (NEXT_CA_CERTIFICATE, OLD_CA_CERTIFICATE, HAND_OVER)
    own = (server.certificate, server.key) if server is not None else ()
    return (*(folder / name for name in (*names, *rolling)), *own)


def issue_peer(pki: Pki, *, now: float) -> tuple[bytes, bytes]:
    """Return a new key and its certificate, PEM, with which this process calls others of the coordinator."""
    key = new_tls_key()
    certificate = issue_client(pki.authority, key.public_key(), role=Role.COORDINATOR, name="coordinator", now=now)
    return private_pem(key), certificate.public_bytes(Encoding.PEM)


def load_operator(folder: Path) -> OperatorIdentity:
    """Read the administrator's certificate from the key folder."""
    return OperatorIdentity(
        key=read_secret(folder / ADMIN_KEY),
        certificate=read_private(folder / ADMIN_CERTIFICATE),
        ca_pem=read_private(folder / CA_CERTIFICATE),
    )


def write_leaves(folder: Path, authority: Authority, hosts: Sequence[str], now: float) -> None:
    """Issue certificates of server and administrator with new keys, and write them; the latter is in operators' book.

    Raises ConfigError for a bad host name, IdentityError (MALFORMED) for a book that cannot be read.
    """
    server, admin = new_tls_key(), new_tls_key()
    server_certificate = issue_server(authority, server.public_key(), hosts=hosts, now=now)
    admin_certificate = issue_client(authority, admin.public_key(), role=Role.OPERATOR, name=ADMIN, now=now)
    enter_operator(folder, ADMIN, Rank.ADMIN, admin_certificate, now=now)
    for name, content in (
        (SERVER_KEY, private_pem(server)),
        (SERVER_CERTIFICATE, server_certificate.public_bytes(Encoding.PEM)),
        (ADMIN_KEY, private_pem(admin)),
        (ADMIN_CERTIFICATE, admin_certificate.public_bytes(Encoding.PEM)),
    ):
        write_private(folder / name, content)


def _write_all(folder: Path, hosts: Sequence[str], now: float, authority: Authority) -> None:
    write_private(folder / CA_KEY, private_pem(authority.key))
    write_private(folder / CA_CERTIFICATE, authority.certificate.public_bytes(Encoding.PEM))
    write_private(folder / MANIFEST_KEY, private_pem(ed25519.Ed25519PrivateKey.generate()))
    write_leaves(folder, authority, hosts, now)


def _read_if_there(path: Path) -> bytes:
    return read_private(path) if path.exists() else b""


def _require_pair(path: Path, key: ec.EllipticCurvePublicKey, certificate: x509.Certificate) -> None:
    if public_info(key) != public_info(certificate.public_key()):
        raise _inconsistent(path)


def _foreign(own: Path, folder: Path) -> IdentityError:
    return IdentityError(
        f"{own} is not by the authority that acts.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step=f"Have the authority of {folder / CA_CERTIFICATE} issue it. While another authority is brought in,"
        " it has to be by the next one before `ravan-coordinator ca switch`.",
    )


def _inconsistent(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} does not belong to the other keys in its folder.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the whole folder from one backup. If `ravan-coordinator ca switch` was cut off, repeat it.",
    )
