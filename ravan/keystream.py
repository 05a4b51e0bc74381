"""Public pseudo-random bytes that are the same on every machine: the source of bases and first classifiers.

Nothing that comes from here is secret; secrets are made elsewhere. Two draws never share bytes as long
as seed, label or context differ, since all three enter the key of the stream.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def expand(seed: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return `length` public pseudo-random bytes named by (seed, label, context).

    HKDF-SHA256 (RFC 5869, no salt) of the seed, with the length-prefixed label and context as its info,
    gives the key of AES-256-CTR from counter 0; the keystream is the result.
    """
    info = b"".join(struct.pack(">Q", len(part)) + part for part in (label, context))
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)
    # A zero counter block is safe here: each key serves one stream.
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(length))
