"""The join string survives being copied, and says so when it did not."""

# ruff: noqa: S106, S107 - made-up tokens
from __future__ import annotations

import base64
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.ca import create_authority
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.join import CoordinatorAddress, Invitation, decode_invitation, encode_invitation


@cache
def ca_certificate() -> bytes:
    return create_authority(1_700_000_000.0).certificate.public_bytes(Encoding.DER)


def invitation(host: str = "hq.example", secret: str = "s3cret") -> Invitation:
    return Invitation(
        address=CoordinatorAddress(host=host, enrolment_port=8440, site_port=8443),
        ca_certificate=ca_certificate(),
        manifest_key=bytes(range(32)),
        token_id="0011223344556677",
        token_secret=secret,
    )


ports = st.integers(0, 65535)
manifest_keys = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=80)


@given(
    host=names, secret=names, token_id=names, enrolment=ports, site=ports, manifest=st.binary(min_size=32, max_size=32)
)
def test_what_was_encoded_is_decoded(
    host: str, secret: str, token_id: str, enrolment: int, site: int, manifest: bytes
) -> None:
    given_invitation = Invitation(
        address=CoordinatorAddress(host=host, enrolment_port=enrolment, site_port=site),
        ca_certificate=ca_certificate(),
        manifest_key=manifest,
        token_id=token_id,
        token_secret=secret,
    )
    text = encode_invitation(given_invitation)
    assert decode_invitation(text) == given_invitation
    assert text.isascii()
    assert text.split() == [text]


@given(position=st.integers(0, 10_000), letter=st.sampled_from("ABCXYZabcxyz0189-_.~ä="))
def test_a_changed_letter_is_noticed(position: int, letter: str) -> None:
    text = encode_invitation(invitation())
    position %= len(text)
    changed = text[:position] + letter + text[position + 1 :]
    if changed == text:
        assert decode_invitation(changed) == invitation()
        return
    with pytest.raises(IdentityError) as caught:
        decode_invitation(changed)
    assert caught.value.reason is ErrorReason.JOIN_STRING_INVALID
    assert caught.value.next_step


@given(length=st.integers(0, 10_000))
def test_a_truncated_string_is_noticed(length: int) -> None:
    text = encode_invitation(invitation())
    with pytest.raises(IdentityError) as caught:
        decode_invitation(text[: length % len(text)])
    assert caught.value.reason is ErrorReason.JOIN_STRING_INVALID


@given(text=st.text(max_size=300), raw=st.binary(max_size=300))
def test_garbage_is_refused_with_a_reason(text: str, raw: bytes) -> None:
    for garbage in (text, "ravan1." + text, "ravan1." + base64.urlsafe_b64encode(raw).decode()):
        with pytest.raises(IdentityError) as caught:
            decode_invitation(garbage)
        assert caught.value.reason is ErrorReason.JOIN_STRING_INVALID


@pytest.mark.parametrize("secret", ["s", "ss", "sss"])
def test_each_content_has_one_spelling(secret: str) -> None:
    text = encode_invitation(invitation(secret=secret))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in letters.replace(text[-1], ""):
        with pytest.raises(IdentityError):
            decode_invitation(text[:-1] + last)


def test_line_breaks_of_a_terminal_do_not_matter() -> None:
    text = encode_invitation(invitation())
    assert decode_invitation(f"  {text[:80]}\n{text[80:]}\r\n") == invitation()


def test_a_newer_version_is_named() -> None:
    with pytest.raises(IdentityError, match="version 2"):
        decode_invitation("ravan2.AAAA")


def test_the_secret_stays_out_of_representations() -> None:
    assert "hunter2" not in repr(invitation(secret="hunter2"))


def test_the_ca_certificate_comes_along_as_pem() -> None:
    assert decode_invitation(encode_invitation(invitation())).ca_pem.startswith(b"-----BEGIN CERTIFICATE-----")
