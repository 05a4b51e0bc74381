"""Certificates as both sides read them: who a client certificate names, and which authority signed it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.keys import UNREADABLE
from ravan.ids import SITE_NAME


class Role(StrEnum):
    """What a client certificate allows its holder to be; the value is the middle part of its URI."""

    AGENT = "site"
    OPERATOR = "operator"
    COORDINATOR = "coordinator"
    """One process of the coordinator that calls another."""


class Rank(StrEnum):
    """How much an operator may do; each may do what those before it may."""

    VIEWER = "viewer"
    """See sites, jobs and models."""
    OPERATOR = "operator"
    """Run jobs, take models in and out."""
    ADMIN = "admin"
    """Decide who belongs to the federation."""

    def includes(self, needed: Rank) -> bool:
        """Tell whether this rank may do what `needed` may."""
        ranks = tuple(Rank)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever is at the other end of a mutually authenticated connection."""

    role: Role
    name: str
    """Site name of an agent, or the operator's name."""
    serial: str
    """Serial number of the certificate, lower-case hexadecimal."""
    rank: Rank | None = None
    """Of an operator; None for anybody else."""


def name_uri(role: Role, name: str, rank: Rank | None = None) -> str:
    """Return the URI that names the holder in a client certificate; without a rank an operator is an administrator."""
    return f"ravan:{role}:{name}" if rank is None else f"ravan:{role}.{rank}:{name}"


def serial_text(certificate: x509.Certificate) -> str:
    """Return the serial number as it is stored and compared: lower-case hexadecimal."""
    return f"{certificate.serial_number:x}"


def load_certificate(pem: bytes) -> x509.Certificate:
    """Parse one PEM certificate; raise IdentityError when it is none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.subject.rfc4514_string()  # names are parsed when they are asked for, not before
    except UNREADABLE as error:
        raise _unreadable() from error
    return certificate


def read_caller(pem: bytes) -> Caller:
    """Read role, name and serial from a client certificate.

    The chain was checked by TLS; here only the shape is: one use (client), no authority, one
    Ravan URI. Raises IdentityError (PERMISSION_DENIED) for any other certificate.
    """
    certificate = load_certificate(pem)
    try:
        usage = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise _foreign_certificate() from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if usage != [ExtendedKeyUsageOID.CLIENT_AUTH] or constraints.ca or len(uris) != 1 or len(list(names)) != 1:
        raise _foreign_certificate()
    role, rank, name = _parse_uri(uris[0])
    return Caller(role=role, name=name, serial=serial_text(certificate), rank=rank)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether `authority` signed `certificate` directly."""
    try:
        certificate.verify_directly_issued_by(authority)
    except UNREADABLE:
        return False
    return True


def is_good_at(certificate: x509.Certificate, at: float) -> bool:
    """Tell whether a time, in seconds since the Unix epoch, lies in the certificate's life."""
    return certificate.not_valid_before_utc.timestamp() <= at <= certificate.not_valid_after_utc.timestamp()


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether the certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def load_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Parse PEM certificates that stand one after the other; raise IdentityError when there is none."""
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
        for certificate in certificates:
            certificate.subject.rfc4514_string()
    except UNREADABLE as error:
        raise _unreadable() from error
    return certificates


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates one after the other, PEM, each once."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in dict.fromkeys(certificates))


def describe_authority(pem: bytes) -> str:
    """Name the first of these CA certificates for a sentence."""
    return describe_certificate(load_certificate(pem))


def describe_certificate(certificate: x509.Certificate) -> str:
    """Name a certificate for a sentence: its common name and the start of its SHA-256 fingerprint."""
    name = certificate.subject.rfc4514_string()
    return f"{name} (SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()[:16]})"


def _parse_uri(uri: str) -> tuple[Role, Rank | None, str]:
    scheme, _, rest = uri.partition(":")
    kind, _, name = rest.partition(":")
    role, dot, rank = kind.partition(".")
    if scheme != "ravan" or role not in set(Role) or not SITE_NAME.fullmatch(name):
        raise _foreign_certificate()
    if not dot:
        return Role(role), Rank.ADMIN if role == Role.OPERATOR else None, name
    if role != Role.OPERATOR or rank not in set(Rank):
        raise _foreign_certificate()
    return Role(role), Rank(rank), name


def _unreadable() -> IdentityError:
    return IdentityError(
        "The certificate cannot be read: it is damaged or not in PEM form.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the file from a backup, or enrol again with a new join string.",
    )


def _foreign_certificate() -> IdentityError:
    return IdentityError(
        "The certificate names neither a site nor an operator.",
        reason=ErrorReason.PERMISSION_DENIED,
        next_step="Use the certificate that `ravan-agent enroll` or `ravan-coordinator init` wrote.",
    )
