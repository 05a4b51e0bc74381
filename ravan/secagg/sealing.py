"""Shares under authenticated encryption between two members; the coordinator only routes them."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ravan.secagg.keys import expand
from ravan.secagg.refusals import violation
from ravan.secagg.shamir import SHARE_BYTES
from ravan.secagg.transcript import Label, data, encode, u16

_VERSION = b"\x01"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


def sealed_size(shares: int) -> int:
    """Return the bytes of a ciphertext that holds this many shares."""
    return len(_VERSION) + shares * SHARE_BYTES + _TAG_BYTES


def channel_key(pair: bytes, members: tuple[int, int]) -> bytes:
    """Return the key between two members (in any order) from their extracted channel secret."""
    low, high = sorted(members)
    return expand(pair, encode(Label.CHANNEL, u16(low), u16(high)), _KEY_BYTES)


def seal(key: bytes, salt: bytes, sender: int, receiver: int, shares: tuple[bytes, ...]) -> bytes:
    """Return version byte and ciphertext of `shares`, bound to both documents, sender and receiver."""
    sealed = AESGCM(key).encrypt(_nonce(sender, receiver), b"".join(shares), _bound(salt, sender, receiver))
    return _VERSION + sealed


def open_sealed(
    key: bytes, salt: bytes, sender: int, receiver: int, ciphertext: bytes, *, shares: int
) -> tuple[bytes, ...]:
    """Return the `shares` sealed parts; raise ProtocolError, naming the sender, for anything else."""
    if len(ciphertext) != sealed_size(shares) or ciphertext[:1] != _VERSION:
        raise violation(f"The shares that member {sender} sealed for member {receiver} have the wrong form.")
    try:
        bound = _bound(salt, sender, receiver)
        plain = AESGCM(key).decrypt(_nonce(sender, receiver), ciphertext[1:], bound)
    except InvalidTag as error:
        raise violation(f"The shares that member {sender} sealed for member {receiver} were altered.") from error
    return tuple(plain[i : i + SHARE_BYTES] for i in range(0, len(plain), SHARE_BYTES))


def _nonce(sender: int, receiver: int) -> bytes:
    # A pair's key is fresh for the round and carries one message each way, which these four bytes tell apart.
    return (u16(sender) + u16(receiver)).rjust(_NONCE_BYTES, b"\0")


def _bound(salt: bytes, sender: int, receiver: int) -> bytes:
    return encode(Label.SEAL, data(salt), u16(sender), u16(receiver))
