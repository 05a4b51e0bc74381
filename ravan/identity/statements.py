"""Bytes under every signature about identities: a label first, then parts, each behind its length.

Two lists of parts never encode alike, and statements of different labels never meet.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes


def statement(label: bytes, *parts: bytes) -> bytes:
    """Return what is signed for these parts under this label."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (label, *parts))


def sha256(content: bytes) -> bytes:
    """Return the SHA-256 of `content`, 32 bytes: how long parts enter a statement."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize()
