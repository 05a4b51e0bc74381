"""Keystreams that are added to ring elements page by page, in a buffer that stays in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR

from ravan.manifest.assignment import Suite
from ravan.secagg.packing import PAGE_ELEMENTS, RING, Elements

_ZEROS = memoryview(bytes(PAGE_ELEMENTS * RING.itemsize))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedKey:
    """A keystream key and whether its stream is added or taken away."""

    key: bytes = field(repr=False)
    subtract: bool


class Keystreams:
    """Several keystreams that run in step over one vector."""

    def __init__(self, suite: Suite, keys: Sequence[SignedKey], buffer: Elements) -> None:
        """Start all streams at their beginning; `buffer` holds one page and may be shared between vectors."""
        self._streams = [(_open_stream(suite, key.key), np.subtract if key.subtract else np.add) for key in keys]
        self._buffer = buffer
        self._bytes = buffer.view(np.uint8).data

    def apply(self, page: Elements) -> None:
        """Add the next part of every stream to `page` in place, modulo 2^32."""
        words = self._buffer[: len(page)]
        zeros = _ZEROS[: words.nbytes]
        raw = self._bytes[: words.nbytes]
        for stream, operation in self._streams:
            stream.update_into(zeros, raw)
            operation(page, words, out=page)


def new_buffer() -> Elements:
    """Return room for one page."""
    return np.empty(PAGE_ELEMENTS, RING)


def _open_stream(suite: Suite, key: bytes) -> CipherContext:
    match suite:
        # A zero counter is safe: every key serves one vector of one round only.
        case Suite.AES_128_CTR | Suite.AES_256_CTR:
            return Cipher(AES(key), CTR(bytes(16))).encryptor()
        case Suite.CHACHA20:
            return Cipher(ChaCha20(key, bytes(16)), None).encryptor()
