"""Checks of an authority that Ravan did not make: a company's own, or one that it signed for this purpose."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from coordinator.enrolment.ca import Authority
from ravan.errors import ConfigError, ErrorReason
from ravan.identity.certificates import is_authority, load_certificates
from ravan.identity.keyfiles import read_private, read_secret
from ravan.identity.keys import UNREADABLE, public_info, read_tls_key


def read_own_authority(certificate: Path, key: Path, *, now: float) -> Authority:
    """Read certificate and key of an authority; raise ConfigError (CONFIG_INVALID) when it cannot serve as one.

    IdentityError is raised for files that cannot be read, and for a key that others may read.
    """
    found = load_certificates(read_private(certificate))
    if len(found) != 1:
        raise _unfit(certificate, f"it holds {len(found)} certificates", "Give the one that is to sign sites.")
    authority = Authority(key=read_tls_key(read_secret(key)), certificate=found[0])
    flaw = _flaw_of(authority, now)
    if flaw is not None:
        raise _unfit(certificate, *flaw)
    return authority


def _flaw_of(authority: Authority, now: float) -> tuple[str, str] | None:
    """Say what is wrong and what to do about it, or nothing."""
    certificate = authority.certificate
    if public_info(certificate.public_key()) != public_info(authority.key.public_key()):
        return "the key is not the certificate's", "Give the key that it was made for."
    if not is_authority(certificate) or not _may_sign(certificate):
        return "it may not sign certificates", "Have it issued with CA:TRUE and the key usage keyCertSign."
    if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
        return "it is not valid now", "Have it issued anew, or set this machine's clock."
    if _has(certificate, x509.NameConstraints):
        return "it is limited to certain names", "Have it issued without name constraints: sites are named by URI."
    return None


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True  # without that extension nothing is forbidden
    except UNREADABLE:
        return False


def _has(certificate: x509.Certificate, extension: type[x509.ExtensionType]) -> bool:
    try:
        certificate.extensions.get_extension_for_class(extension)
    except x509.ExtensionNotFound:
        return False
    return True


def _unfit(path: Path, flaw: str, next_step: str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be the certificate authority: {flaw}.", reason=ErrorReason.CONFIG_INVALID, next_step=next_step
    )
