"""Join strings, certificates, certificate requests and proofs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import Authority, create_authority, issue_client
from fuzz.target import Format, Target, require
from fuzz.values import MANIFEST_KEY
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, describe_authority, is_issued_by, load_certificate, read_caller
from ravan.identity.join import PREFIX, CoordinatorAddress, Invitation, decode_invitation, encode_invitation
from ravan.identity.keys import certificate_request, new_tls_key, public_info, raw_public, requested_key
from ravan.identity.proof import sign_proof, verify_proof
from ravan.ids import SITE_NAME

_NOW: Final = 1.8e9
_TOKEN: Final = "0011223344556677"  # noqa: S105 - names a token, and is none
_REQUEST: Final = b"request"


@cache
def _authority() -> Authority:
    return create_authority(_NOW)


def _read_join_string(data: bytes) -> None:
    text = data.decode(errors="replace")
    invitation = decode_invitation(text)
    require(encode_invitation(invitation) == "".join(text.split()), "a join string has two spellings")
    require(bool(describe_authority(invitation.ca_pem)), "an authority has no description")


def _read_join_fields(data: bytes) -> None:
    """Read fields under the right checksum, which mutations cannot hit by chance."""
    content = data + hashlib.sha256(data).digest()[:8]
    _read_join_string(PREFIX.encode() + base64.urlsafe_b64encode(content).rstrip(b"="))


def _read_certificate(data: bytes) -> None:
    body = base64.encodebytes(data).decode()
    _read_pem(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n".encode())


def _read_pem(data: bytes) -> None:
    certificate = load_certificate(data)
    is_issued_by(certificate, _authority().certificate)
    describe_authority(data)
    caller = read_caller(data)
    require(SITE_NAME.fullmatch(caller.name) is not None, "a caller's name is none")


def _read_request(data: bytes) -> None:
    require(bool(public_info(requested_key(data))), "a requested key has no form")


def _read_proof(data: bytes) -> None:
    verify_proof(data[:64], identity_key=data[64:96], token_id=_TOKEN, tls_csr=data[96:])


def _invitation() -> Invitation:
    return Invitation(
        address=CoordinatorAddress(host="hq.example", enrolment_port=8444, site_port=8443),
        ca_certificate=_authority().certificate.public_bytes(Encoding.DER),
        manifest_key=raw_public(MANIFEST_KEY),
        token_id=_TOKEN,
        token_secret="secret",  # noqa: S106 - opens nothing
    )


def _join_strings() -> Iterable[bytes]:
    yield encode_invitation(_invitation()).encode()


def _join_fields() -> Iterable[bytes]:
    body = encode_invitation(_invitation()).removeprefix(PREFIX)
    yield base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[:-8]


def _certificates(encoding: Encoding) -> Iterable[bytes]:
    key = new_tls_key().public_key()
    for role in Role:
        yield issue_client(_authority(), key, role=role, name="plant-7", now=_NOW).public_bytes(encoding)


def _requests() -> Iterable[bytes]:
    yield certificate_request(new_tls_key())


def _proofs() -> Iterable[bytes]:
    proof = sign_proof(MANIFEST_KEY, token_id=_TOKEN, tls_csr=_REQUEST)
    yield proof + raw_public(MANIFEST_KEY) + _REQUEST


IDENTITY: Final = Target(
    name="identity",
    formats=(
        Format(name="join string", read=_read_join_string, seeds=_join_strings),
        Format(name="join fields", read=_read_join_fields, seeds=_join_fields),
        Format(name="certificate", read=_read_certificate, seeds=lambda: _certificates(Encoding.DER)),
        Format(name="pem", read=_read_pem, seeds=lambda: _certificates(Encoding.PEM)),
        Format(name="request", read=_read_request, seeds=_requests),
        Format(name="proof", read=_read_proof, seeds=_proofs),
    ),
    refusals={
        IdentityError: frozenset(
            {
                ErrorReason.JOIN_STRING_INVALID,
                ErrorReason.IDENTITY_MISMATCH,
                ErrorReason.PERMISSION_DENIED,
                ErrorReason.MALFORMED,
                ErrorReason.SIGNATURE_INVALID,
            }
        )
    },
)
