"""Proof at enrolment that the holder of the TLS key also holds the Ed25519 key."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.statements import sha256, statement

LABEL: Final = b"ravan/v1/enrolment-proof"


def sign_proof(identity: ed25519.Ed25519PrivateKey, *, token_id: str, tls_csr: bytes) -> bytes:
    """Sign token and certificate request with the identity key; 64 bytes."""
    return identity.sign(_transcript(token_id, tls_csr))


def verify_proof(proof: bytes, *, identity_key: bytes, token_id: str, tls_csr: bytes) -> None:
    """Check a proof against the raw public key; raise IdentityError (SIGNATURE_INVALID) when it does not hold."""
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(identity_key)
        key.verify(proof, _transcript(token_id, tls_csr))
    except (ValueError, InvalidSignature) as error:
        raise IdentityError(
            "The secure aggregation key was not proved together with the TLS key.",
            reason=ErrorReason.SIGNATURE_INVALID,
            next_step="Repeat `ravan-agent enroll`; if it happens again, something changes the connection's content.",
        ) from error


def _transcript(token_id: str, tls_csr: bytes) -> bytes:
    return statement(LABEL, token_id.encode(), sha256(tls_csr))
