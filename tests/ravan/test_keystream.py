"""The public keystream against HKDF and counter mode written out by hand."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from ravan.keystream import expand


def expand_by_hand(seed: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 (one output block suffices), then AES of the counters 0, 1, 2 ..."""
    prk = hmac.new(bytes(32), seed, hashlib.sha256).digest()
    info = struct.pack(">Q", len(label)) + label + struct.pack(">Q", len(context)) + context
    key = hmac.new(prk, info + b"\x01", hashlib.sha256).digest()
    counters = b"".join(i.to_bytes(16, "big") for i in range(-(-length // 16)))
    return Cipher(AES(key), ECB()).encryptor().update(counters)[:length]  # noqa: S305 - counter mode by hand


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 100))
def test_is_hkdf_then_counter_mode(seed: bytes, label: bytes, context: bytes, length: int) -> None:
    assert expand(seed, label, context, length) == expand_by_hand(seed, label, context, length)


@pytest.mark.parametrize(
    ("seed", "label", "context"),
    [(b"other", b"ab", b"cd"), (b"seed", b"abc", b"d"), (b"seed", b"a", b"bcd"), (b"seed", b"ab", b"ce")],
)
def test_any_change_of_name_changes_the_bytes(seed: bytes, label: bytes, context: bytes) -> None:
    assert expand(seed, label, context, 32) != expand(b"seed", b"ab", b"cd", 32)
