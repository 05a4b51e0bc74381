"""The proof binds token, certificate request and secure aggregation key together."""

# ruff: noqa: S106 - made-up tokens
from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.keys import (
    certificate_request,
    new_tls_key,
    private_pem,
    public_info,
    raw_public,
    read_identity_key,
    read_tls_key,
    requested_key,
)
from ravan.identity.proof import sign_proof, verify_proof

IDENTITY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


def test_a_proof_holds_for_what_it_was_made_for() -> None:
    proof = sign_proof(IDENTITY, token_id="t1", tls_csr=b"request")
    verify_proof(proof, identity_key=raw_public(IDENTITY), token_id="t1", tls_csr=b"request")
    # the transcript written out by hand: label, token, hash, each behind its length
    label = b"ravan/v1/enrolment-proof"
    parts = (label, b"t1", hashlib.sha256(b"request").digest())
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    IDENTITY.public_key().verify(proof, transcript)


@pytest.mark.parametrize(
    ("token_id", "request_bytes", "key"),
    [
        ("t2", b"request", raw_public(IDENTITY)),
        ("t1", b"another", raw_public(IDENTITY)),
        ("t1", b"request", bytes(31)),
        ("t1", b"request", raw_public(ed25519.Ed25519PrivateKey.from_private_bytes(b"\1" * 32))),
    ],
)
def test_a_proof_for_something_else_is_refused(token_id: str, request_bytes: bytes, key: bytes) -> None:
    proof = sign_proof(IDENTITY, token_id="t1", tls_csr=b"request")
    with pytest.raises(IdentityError) as caught:
        verify_proof(proof, identity_key=key, token_id=token_id, tls_csr=request_bytes)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


def test_the_key_of_a_request_is_read() -> None:
    key = new_tls_key()
    assert public_info(requested_key(certificate_request(key))) == public_info(key.public_key())


def test_a_changed_request_is_refused() -> None:
    request = bytearray(certificate_request(new_tls_key()))
    request[-1] ^= 1
    for bad in (bytes(request), b"", b"no request"):
        with pytest.raises(IdentityError) as caught:
            requested_key(bad)
        assert caught.value.reason is ErrorReason.MALFORMED


def test_only_p256_requests_are_taken() -> None:
    with pytest.raises(IdentityError) as caught:
        requested_key(certificate_request(ec.generate_private_key(ec.SECP384R1())))
    assert caught.value.reason is ErrorReason.MALFORMED


def test_keys_of_the_wrong_kind_are_refused() -> None:
    tls, identity = private_pem(new_tls_key()), private_pem(IDENTITY)
    assert raw_public(read_identity_key(identity)) == raw_public(IDENTITY)
    for read, pem in ((read_tls_key, identity), (read_identity_key, tls), (read_tls_key, b"garbage")):
        with pytest.raises(IdentityError) as caught:
            read(pem)
        assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH
