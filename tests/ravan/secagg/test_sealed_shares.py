"""Sealed shares: opened by the receiver alone, whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import seeded

from ravan.errors import ErrorReason, ProtocolError
from ravan.secagg.sealing import channel_key, open_sealed, seal, sealed_size

KEY = channel_key(seeded("pair"), (2, 5))
SALT = seeded("salt")
SHARES = tuple(bytes([0, *seeded("share", i)]) for i in range(3))
SEALED = seal(KEY, SALT, 5, 2, SHARES)


def refused(key: bytes, salt: bytes, sender: int, receiver: int, ciphertext: bytes, shares: int) -> None:
    with pytest.raises(ProtocolError, match=f"member {sender}") as caught:
        open_sealed(key, salt, sender, receiver, ciphertext, shares=shares)
    assert caught.value.reason is ErrorReason.PROTOCOL_VIOLATION


def test_both_ends_have_one_key_and_the_size_is_known_before() -> None:
    assert channel_key(seeded("pair"), (5, 2)) == KEY
    assert len(SEALED) == sealed_size(3)
    assert open_sealed(KEY, SALT, 5, 2, SEALED, shares=3) == SHARES


def test_reflected_redirected_or_replayed_shares_are_refused() -> None:
    refused(KEY, SALT, 2, 5, SEALED, 3)
    refused(KEY, SALT, 5, 3, SEALED, 3)
    refused(KEY, seeded("another round"), 5, 2, SEALED, 3)
    refused(channel_key(seeded("pair"), (2, 6)), SALT, 5, 2, SEALED, 3)
    refused(KEY, SALT, 5, 2, SEALED, 2)


@given(st.integers(0, 8 * len(SEALED) - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    flipped = bytearray(SEALED)
    flipped[bit // 8] ^= 1 << bit % 8
    refused(KEY, SALT, 5, 2, bytes(flipped), 3)


@given(st.binary(max_size=2 * len(SEALED)), st.integers(0, 17))
def test_garbage_is_refused(garbage: bytes, shares: int) -> None:
    refused(KEY, SALT, 5, 2, garbage, shares)


@pytest.mark.parametrize("ciphertext", [SEALED[:-1], SEALED + b"\0", b"", b"\x02" + SEALED[1:]])
def test_what_has_not_the_form_of_sealed_shares_is_not_even_opened(ciphertext: bytes) -> None:
    with pytest.raises(ProtocolError, match="wrong form"):
        open_sealed(KEY, SALT, 5, 2, ciphertext, shares=3)
