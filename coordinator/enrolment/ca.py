"""The certificate authority: what each certificate may be used for, and for how long.

Every certificate below the authority has exactly one extended key usage and CA:FALSE: an agent's
certificate without them could pose as the coordinator. Names come from the caller of these
functions, never from a certificate request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from ravan.errors import ConfigError, ErrorReason
from ravan.identity.certificates import Rank, Role, name_uri
from ravan.identity.keys import new_tls_key
from ravan.ids import SITE_NAME

AUTHORITY_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=730)
OPERATOR_LIFE: Final = timedelta(days=365)

BACKDATED: Final = timedelta(days=1)
"""Certificates are valid from a day ago: clocks of factory PCs are often behind."""
_BACKDATED_PART: Final = 10
"""Backdating takes no more than this part of a short life, or the site would have to renew at once."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Key and certificate that sign all others."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


def create_authority(now: float) -> Authority:
    """Make a new authority; `now` in seconds since the Unix epoch."""
    key = new_tls_key()
    number = x509.random_serial_number()
    subject = _name(f"Ravan CA {number:x}"[:17])
    builder = _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFE).serial_number(number)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(key=key, certificate=builder.sign(key, hashes.SHA256()))


def issue_server(
    authority: Authority, key: ec.EllipticCurvePublicKey, *, hosts: Sequence[str], now: float
) -> x509.Certificate:
    """Sign the coordinator's certificate for these host names or addresses and for loopback.

    Raises ConfigError (CONFIG_INVALID) for a name that a certificate cannot carry.
    """
    names = [_host_name(host) for host in dict.fromkeys((*hosts, *LOOPBACK))]
    return _issue(authority, key, _name("Ravan coordinator"), names, ExtendedKeyUsageOID.SERVER_AUTH, now, SERVER_LIFE)


def issue_client(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    *,
    role: Role,
    name: str,
    now: float,
    life: timedelta = OPERATOR_LIFE,
    rank: Rank | None = None,
) -> x509.Certificate:
    """Sign the certificate of an agent, or of an operator of this rank, by name (see `ravan.ids.SITE_NAME`)."""
    if not SITE_NAME.fullmatch(name):
        raise ConfigError(
            f"`{name}` cannot be a name.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Use lower-case letters, digits and inner hyphens, at most 63.",
        )
    names = [x509.UniformResourceIdentifier(name_uri(role, name, rank))]
    return _issue(authority, key, _name(name), names, ExtendedKeyUsageOID.CLIENT_AUTH, now, life)


def _issue(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    usage: ObjectIdentifier,
    now: float,
    life: timedelta,
) -> x509.Certificate:
    issuer = authority.certificate
    left = issuer.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
    builder = _builder(subject, issuer.subject, key, now, min(life, left)).serial_number(x509.random_serial_number())
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([usage]), True),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (_authority_identifier(issuer), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority.key, hashes.SHA256())


def _authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Point to the issuer's key; an authority that Ravan did not make may carry no identifier of its own."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, life: timedelta
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(now, UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    backdated = min(BACKDATED, life / _BACKDATED_PART)
    return builder.not_valid_before(moment - backdated).not_valid_after(moment + life)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.rstrip(".").lower().split(".")
    if len(host) > 253 or not all(SITE_NAME.fullmatch(label) for label in labels):
        raise ConfigError(
            f"`{host}` is neither a host name nor an IP address.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Give the name under which the sites reach this machine, without port or scheme.",
        )
    return x509.DNSName(".".join(labels))
