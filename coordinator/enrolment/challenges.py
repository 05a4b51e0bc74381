"""Challenges for sites that renew an expired certificate: remembered by their seal, good once and briefly."""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac

from ravan.errors import ErrorReason, IdentityError

GOOD_FOR_S: Final = 120.0
CHALLENGE_BYTES: Final = 56

_LABEL: Final = b"ravan/v1/renewal-challenge"
_NONCE_BYTES: Final = 16


class Challenges:
    """Make challenges and take each at most once; those of an earlier process are refused.

    Nothing is stored for a challenge that was made, only for one that a site has answered rightly, so that
    strangers cannot fill the memory.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._taken: dict[bytes, float] = {}

    def make(self, now: float) -> bytes:
        """Return a challenge: when it was made, random bytes, and the seal over both; 56 bytes."""
        content = struct.pack(">d", now) + secrets.token_bytes(_NONCE_BYTES)
        return content + self._seal(content)

    def check(self, challenge: bytes, now: float) -> None:
        """Raise IdentityError (SIGNATURE_INVALID) unless it was made here, lately, and was not taken."""
        content = challenge[: 8 + _NONCE_BYTES]
        if len(challenge) != CHALLENGE_BYTES or not self._is_sealed(content, challenge[len(content) :]):
            raise _stale()
        (made,) = struct.unpack(">d", content[:8])
        if not made <= now < made + GOOD_FOR_S or challenge in self._taken:
            raise _stale()

    def take(self, challenge: bytes, now: float) -> None:
        """Refuse this challenge from now on."""
        self._taken = {each: until for each, until in self._taken.items() if until > now}
        self._taken[challenge] = now + GOOD_FOR_S

    def _seal(self, content: bytes) -> bytes:
        return self._mac(content).finalize()

    def _is_sealed(self, content: bytes, seal: bytes) -> bool:
        try:
            self._mac(content).verify(seal)
        except InvalidSignature:
            return False
        return True

    def _mac(self, content: bytes) -> hmac.HMAC:
        mac = hmac.HMAC(self._key, hashes.SHA256())
        mac.update(_LABEL + content)
        return mac


def _stale() -> IdentityError:
    return IdentityError(
        "The answer belongs to no challenge that this coordinator has made in the last two minutes.",
        reason=ErrorReason.SIGNATURE_INVALID,
        next_step="Nothing to do: the agent asks for another one. If it stays so, something repeats old messages.",
    )
