"""The join string: all that a new PC needs to enrol, in one line that survives being pasted.

`ravan1.` and the base64url form (without padding) of length-prefixed fields and the first 8 bytes
of their SHA-256. It carries the CA certificate itself, since gRPC cannot pin a fingerprint, and
the one-time secret, so it is to be treated like a password until it was used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.keys import UNREADABLE
from ravan.identity.one_line import join_fields, read_letters, split_fields, write_letters

PREFIX: Final = "ravan1."
_FIELDS: Final = 7
_CHECKSUM_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorAddress:
    """Where agents find the coordinator."""

    host: str
    enrolment_port: int
    """Server TLS and a token."""
    site_port: int
    """Mutual TLS; agents and operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Content of a join string."""

    address: CoordinatorAddress
    ca_certificate: bytes
    """DER."""
    manifest_key: bytes
    """Ed25519 public key that signs plans, assignments and rosters; raw, 32 bytes."""
    token_id: str
    token_secret: str = field(repr=False)

    @property
    def ca_pem(self) -> bytes:
        """CA certificate in PEM form, as TLS wants it."""
        return x509.load_der_x509_certificate(self.ca_certificate).public_bytes(serialization.Encoding.PEM)


def encode_invitation(invitation: Invitation) -> str:
    """Return the join string: one line of letters, digits, `-`, `_` and one dot."""
    address = invitation.address
    fields = (
        address.host.encode(),
        address.enrolment_port.to_bytes(2, "big"),
        address.site_port.to_bytes(2, "big"),
        invitation.ca_certificate,
        invitation.manifest_key,
        invitation.token_id.encode(),
        invitation.token_secret.encode(),
    )
    content = join_fields(fields)
    return PREFIX + write_letters(content + _checksum(content))


def decode_invitation(text: str) -> Invitation:
    """Read a join string; white space from line breaks of a terminal is ignored.

    Raises IdentityError (JOIN_STRING_INVALID) for anything that `encode_invitation` did not write.
    """
    compact = "".join(text.split())
    if not compact.startswith(PREFIX):
        raise _not_a_join_string(compact)
    try:
        raw = read_letters(compact.removeprefix(PREFIX))
        content, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
        fields = split_fields(content)
    except ValueError as error:
        raise _damaged() from error
    if checksum != _checksum(content) or len(fields) != _FIELDS:
        raise _damaged()
    return _read_fields(fields)


def _read_fields(fields: list[bytes]) -> Invitation:
    host, enrolment_port, site_port, certificate, manifest_key, token_id, secret = fields
    try:
        # names are parsed when they are asked for, which is later, in a sentence about the authority
        x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
        invitation = Invitation(
            address=CoordinatorAddress(
                host=host.decode(),
                enrolment_port=int.from_bytes(enrolment_port, "big"),
                site_port=int.from_bytes(site_port, "big"),
            ),
            ca_certificate=certificate,
            manifest_key=manifest_key,
            token_id=token_id.decode(),
            token_secret=secret.decode(),
        )
    except UNREADABLE as error:
        raise _damaged() from error
    if not host or not token_id or not secret or len(manifest_key) != 32:
        raise _damaged()
    if len(enrolment_port) != 2 or len(site_port) != 2:
        raise _damaged()
    return invitation


def _checksum(content: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize()[:_CHECKSUM_BYTES]


def _damaged() -> IdentityError:
    return IdentityError(
        "The join string is damaged or was not copied completely.",
        reason=ErrorReason.JOIN_STRING_INVALID,
        next_step="Copy the whole line again, or pass it on standard input: `ravan-agent enroll - --dir DIR`.",
    )


def _not_a_join_string(text: str) -> IdentityError:
    version = text.partition(".")[0].removeprefix("ravan")
    if text.startswith("ravan") and version.isdecimal():
        return IdentityError(
            f"The join string has version {version[:9]}, which this agent does not know.",
            reason=ErrorReason.JOIN_STRING_INVALID,
            next_step="Install the agent of the coordinator's version.",
        )
    return IdentityError(
        f"This is not a join string: it does not start with `{PREFIX}`.",
        reason=ErrorReason.JOIN_STRING_INVALID,
        next_step="Ask HQ for the line that `ravan-coordinator token create --site NAME` prints.",
    )
