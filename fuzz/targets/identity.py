"""Join strings, certificates, certificate requests and proofs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import Authority, create_authority, issue_client
from edge_agent.identity.grants import accept_grant
from edge_agent.identity.keystore import Identity
from fuzz.target import Format, Target, require
from fuzz.values import MANIFEST_KEY
from ravan.codec import fields
from ravan.codec.grants import grant_from_wire
from ravan.errors import ErrorReason, IdentityError, ProtocolError
from ravan.identity.certificates import Role, describe_authority, is_issued_by, load_certificate, read_caller
from ravan.identity.handover import PREFIX as HAND_OVER_PREFIX
from ravan.identity.handover import HandOver, decode_hand_over, encode_hand_over, sign_hand_over, verify_hand_over
from ravan.identity.join import PREFIX, CoordinatorAddress, Invitation, decode_invitation, encode_invitation
from ravan.identity.keys import (
    certificate_request,
    new_tls_key,
    private_pem,
    public_info,
    raw_public,
    requested_key,
)
from ravan.identity.proof import sign_proof, verify_proof
from ravan.identity.renewal import Renewal
from ravan.ids import SITE_NAME, SiteId
from ravan.wire.v1.common_pb2 import CertificateGrant

_NOW: Final = 1.8e9
_KEY: Final = new_tls_key()
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


def _read_hand_over(data: bytes) -> None:
    text = data.decode(errors="replace")
    document = decode_hand_over(text)
    require(encode_hand_over(document) == "".join(text.split()), "a hand-over has two spellings")
    try:
        verify_hand_over(document, [_authority().certificate])
    except IdentityError:
        return
    require(document == _hand_over(), "a hand-over was forged")


def _read_hand_over_fields(data: bytes) -> None:
    _read_hand_over(HAND_OVER_PREFIX.encode() + base64.urlsafe_b64encode(data).rstrip(b"="))


def _read_grant(data: bytes) -> None:
    """Read what a coordinator answers a renewal with."""
    accept_grant(_identity(), _KEY, grant_from_wire(fields.parse(CertificateGrant, data, "grant")))


def _read_renewal(data: bytes) -> None:
    challenge, proof, request = data[:56], data[56:120], data[120:]
    renewal = Renewal(site=SiteId("plant-7"), serial="ab", tls_csr=request, challenge=challenge)
    renewal.verify(proof, raw_public(MANIFEST_KEY))


@cache
def _hand_over() -> HandOver:
    authority = _authority()
    return sign_hand_over(authority.key, authority.certificate, create_authority(_NOW).certificate, bytes(32))


@cache
def _identity() -> Identity:
    authority = _authority().certificate.public_bytes(Encoding.PEM)
    return Identity(
        site=SiteId("plant-7"),
        address=CoordinatorAddress(host="hq.example", enrolment_port=8444, site_port=8443),
        tls_key=private_pem(_KEY),
        certificate=next(iter(_certificates(Encoding.PEM))),
        ca_certificate=authority,
        identity_key=MANIFEST_KEY,
        manifest_key=raw_public(MANIFEST_KEY),
    )


def _hand_overs() -> Iterable[bytes]:
    yield encode_hand_over(_hand_over()).encode()


def _hand_over_fields() -> Iterable[bytes]:
    body = encode_hand_over(_hand_over()).removeprefix(HAND_OVER_PREFIX)
    yield base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def _grants() -> Iterable[bytes]:
    own = _identity()
    certificate = issue_client(_authority(), _KEY.public_key(), role=Role.AGENT, name="plant-7", now=_NOW)
    for hand_over in ("", encode_hand_over(_hand_over())):
        yield CertificateGrant(
            certificate_pem=certificate.public_bytes(Encoding.PEM),
            ca_certificates_pem=own.ca_certificate,
            hand_over=hand_over,
        ).SerializeToString(deterministic=True)


def _renewals() -> Iterable[bytes]:
    renewal = Renewal(site=SiteId("plant-7"), serial="ab", tls_csr=_REQUEST, challenge=bytes(56))
    yield renewal.challenge + renewal.sign(MANIFEST_KEY) + _REQUEST


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
        Format(name="hand-over", read=_read_hand_over, seeds=_hand_overs),
        Format(name="hand-over fields", read=_read_hand_over_fields, seeds=_hand_over_fields),
        Format(name="grant", read=_read_grant, seeds=_grants),
        Format(name="renewal", read=_read_renewal, seeds=_renewals),
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
        ),
        ProtocolError: frozenset({ErrorReason.MALFORMED}),
    },
)
