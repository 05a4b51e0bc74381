"""A hand-over: one certificate authority names the next one, and the manifest key that goes with it.

`ravan-handover1.` and the base64url form (without padding) of length-prefixed fields and the old authority's ECDSA
signature under them. A site follows it only from an authority that it trusts already; the document is public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import describe_certificate, is_authority
from ravan.identity.keys import UNREADABLE
from ravan.identity.one_line import join_fields, read_letters, split_fields, write_letters
from ravan.identity.statements import statement

LABEL: Final = b"ravan/v1/hand-over"
PREFIX: Final = "ravan-handover1."
LONGEST: Final = 16_384
"""Characters of a hand-over; a certificate takes about a thousand."""

_FIELDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What an authority says of its successor."""

    signer: bytes
    """SHA-256 of the old authority's certificate, DER; 32 bytes."""
    next_authority: bytes
    """The new authority's certificate, DER."""
    manifest_key: bytes
    """Ed25519 public key that signs plans, assignments and rosters from then on; raw, 32 bytes."""
    signature: bytes
    """ECDSA with SHA-256, DER."""

    @property
    def authority(self) -> x509.Certificate:
        """The new authority's certificate."""
        return x509.load_der_x509_certificate(self.next_authority)


def sign_hand_over(
    key: ec.EllipticCurvePrivateKey, old: x509.Certificate, new: x509.Certificate, manifest_key: bytes
) -> HandOver:
    """Have the old authority, whose key this is, name the new one."""
    signer, successor = old.fingerprint(hashes.SHA256()), new.public_bytes(Encoding.DER)
    signature = key.sign(_transcript(signer, successor, manifest_key), ec.ECDSA(hashes.SHA256()))
    return HandOver(signer=signer, next_authority=successor, manifest_key=manifest_key, signature=signature)


def verify_hand_over(document: HandOver, trusted: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the new authority when one of those trusted has named it.

    Raises IdentityError: IDENTITY_MISMATCH when none of them is the signer, SIGNATURE_INVALID.
    """
    signer = next((each for each in trusted if each.fingerprint(hashes.SHA256()) == document.signer), None)
    if signer is None:
        raise IdentityError(
            "The hand-over is signed by a certificate authority that this PC does not trust.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Ask HQ for a new join string: `ravan-coordinator token create --site NAME`.",
        )
    key = signer.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature  # no other authority signs hand-overs
        transcript = _transcript(document.signer, document.next_authority, document.manifest_key)
        key.verify(document.signature, transcript, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise IdentityError(
            f"The hand-over does not carry the signature of {describe_certificate(signer)}.",
            reason=ErrorReason.SIGNATURE_INVALID,
            next_step="Do not follow it. Tell HQ, and compare the fingerprint of the new authority by telephone.",
        ) from error
    return document.authority


def encode_hand_over(document: HandOver) -> str:
    """Return one line of letters, digits, `-`, `_` and one dot."""
    fields = (document.signer, document.next_authority, document.manifest_key, document.signature)
    return PREFIX + write_letters(join_fields(fields))


def decode_hand_over(text: str) -> HandOver:
    """Read a hand-over; white space from line breaks is ignored. Nothing in it is verified but its form.

    Raises IdentityError (MALFORMED) for anything that `encode_hand_over` did not write.
    """
    compact = "".join(text.split())
    if len(compact) > LONGEST or not compact.startswith(PREFIX):
        raise _damaged()
    try:
        fields = split_fields(read_letters(compact.removeprefix(PREFIX)))
    except ValueError as error:
        raise _damaged() from error
    return _read_fields(fields)


def _read_fields(fields: list[bytes]) -> HandOver:
    if len(fields) != _FIELDS or (len(fields[0]), len(fields[2])) != (32, 32):
        raise _damaged()
    signer, successor, manifest_key, signature = fields
    document = HandOver(signer=signer, next_authority=successor, manifest_key=manifest_key, signature=signature)
    try:
        document.authority.subject.rfc4514_string()  # names are parsed when they are asked for
        sound = is_authority(document.authority)
    except UNREADABLE as error:
        raise _damaged() from error
    if not sound:
        raise _damaged()
    return document


def _transcript(signer: bytes, successor: bytes, manifest_key: bytes) -> bytes:
    return statement(LABEL, signer, successor, manifest_key)


def _damaged() -> IdentityError:
    return IdentityError(
        "The hand-over to a new certificate authority is damaged or was not copied completely.",
        reason=ErrorReason.MALFORMED,
        next_step="Copy the whole line that `ravan-coordinator ca hand-over` prints.",
    )
