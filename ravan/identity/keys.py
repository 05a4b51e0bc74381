"""The two keys of a PC: making, writing and reading P-256 (TLS) and Ed25519 (secure aggregation) keys."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from ravan.errors import ErrorReason, IdentityError

UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for a certificate or request that a stranger made up."""


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key; gRPC's TLS does not take Ed25519 certificates."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Serialise a private key as unencrypted PKCS #8 PEM; the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_tls_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Parse a P-256 private key; raise IdentityError for anything else."""
    key = _read_private(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _damaged_key()
    return key


def read_identity_key(pem: bytes) -> ed25519.Ed25519PrivateKey:
    """Parse an Ed25519 private key; raise IdentityError for anything else."""
    key = _read_private(pem)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _damaged_key()
    return key


def raw_public(key: ed25519.Ed25519PrivateKey) -> bytes:
    """Return the raw public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def public_info(key: PublicKeyTypes) -> bytes:
    """Return a public key as SubjectPublicKeyInfo, DER: the form in which keys are compared and hashed."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign a PKCS #10 request, DER, with an empty subject: the name comes from the token."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of a PKCS #10 request (DER) whose signature holds; nothing else in it is read.

    Raises IdentityError (MALFORMED) for anything else.
    """
    try:
        csr = x509.load_der_x509_csr(request)
        key = csr.public_key()
        valid = csr.is_signature_valid
    except UNREADABLE as error:
        raise _bad_request() from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_request()
    return key


def _read_private(pem: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged_key() from error


def _damaged_key() -> IdentityError:
    return IdentityError(
        "The private key cannot be read: the file is damaged or holds another kind of key.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the file from a backup, or start again in a new folder.",
    )


def _bad_request() -> IdentityError:
    return IdentityError(
        "The certificate request is not a self-signed PKCS #10 request for a P-256 key.",
        reason=ErrorReason.MALFORMED,
        next_step="Enrol with a `ravan-agent` of this coordinator's version.",
    )
