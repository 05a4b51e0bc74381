"""Canonical bytes of everything that is signed, hashed or fed to a key derivation, and every label.

One encoder only: a length-prefixed label, then fields of fixed width or with a length prefix. Two
different values of one label never encode alike, and two labels never meet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Final

from ravan.ids import Digest
from ravan.manifest.documents import DocumentKind

DIGEST_BYTES = 32
"""Size of SHA-256, of Ed25519 and X25519 keys, and of every seed."""


class Label(Enum):
    """What a transcript is for; the version is part of each."""

    PLAN = b"ravan/v1/document/plan"
    ASSIGNMENT = b"ravan/v1/document/assignment"
    ROSTER = b"ravan/v1/document/roster"
    DOCUMENT_SIGNATURE = b"ravan/v1/document-signature"
    TRACE = b"ravan/v1/trace"
    SPAN = b"ravan/v1/span"
    ADVERTISE = b"ravan/secagg/v1/advertise"
    MASK_SET = b"ravan/secagg/v1/mask-set"
    UPLOAD = b"ravan/secagg/v1/upload"
    SURVIVORS = b"ravan/secagg/v1/survivors"
    SALT = b"ravan/secagg/v1/salt"
    PAIR = b"ravan/secagg/v1/pair"
    SELF = b"ravan/secagg/v1/self"
    CHANNEL = b"ravan/secagg/v1/channel"
    CELL = b"ravan/secagg/v1/cell"
    SEAL = b"ravan/secagg/v1/seal"
    DH = b"ravan/secagg/v1/dh"
    ROOT_MASK_SEED = b"ravan/secagg/v1/root/mask-seed"
    ROOT_CHANNEL_SEED = b"ravan/secagg/v1/root/channel-seed"
    ROOT_SELF_SEED = b"ravan/secagg/v1/root/self-seed"
    ROOT_SHAMIR_SEED = b"ravan/secagg/v1/root/shamir/seed"
    ROOT_SHAMIR_SELF = b"ravan/secagg/v1/root/shamir/self"


_DOCUMENTS: Final[Mapping[DocumentKind, Label]] = MappingProxyType(
    {
        DocumentKind.PLAN: Label.PLAN,
        DocumentKind.ASSIGNMENT: Label.ASSIGNMENT,
        DocumentKind.ROSTER: Label.ROSTER,
    }
)


def u8(value: int) -> bytes:
    """Encode 0..255; raise OverflowError outside."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Encode 0..65535, most significant byte first; raise OverflowError outside."""
    return value.to_bytes(2, "big")


def u64(value: int) -> bytes:
    """Encode 0..2^64-1, most significant byte first; raise OverflowError outside."""
    return value.to_bytes(8, "big")


def data(value: bytes) -> bytes:
    """Encode a byte string behind its length in four bytes."""
    return len(value).to_bytes(4, "big") + value


def numbers(values: Sequence[int]) -> bytes:
    """Encode a list of 0..65535 behind its count in four bytes."""
    return len(values).to_bytes(4, "big") + b"".join(map(u16, values))


def encode(label: Label, *fields: bytes) -> bytes:
    """Return the canonical bytes of `fields`, each made by one of the functions above."""
    return data(label.value) + b"".join(fields)


def digest(label: Label, *fields: bytes) -> Digest:
    """Return the SHA-256 of the canonical bytes."""
    return Digest(hashlib.sha256(encode(label, *fields)).digest())


def document_digest(kind: DocumentKind, payload: bytes) -> Digest:
    """Return the digest by which others name a signed document, from its exact serialised bytes."""
    return digest(_DOCUMENTS[kind], data(payload))


def document_signing_bytes(kind: DocumentKind, payload: bytes) -> bytes:
    """Return what the coordinator's manifest key signs for a document."""
    return encode(Label.DOCUMENT_SIGNATURE, data(document_digest(kind, payload)))


def advertise_bytes(assignment_digest: Digest, index: int, mask_key: bytes, channel_key: bytes) -> bytes:
    """Return what a member's identity signs when it advertises its round keys."""
    return encode(Label.ADVERTISE, data(assignment_digest), u16(index), data(mask_key), data(channel_key))


def mask_set_digest(assignment_digest: Digest, roster_digest: Digest, members: Sequence[int]) -> Digest:
    """Return the digest of U2, the members whose shares arrived; it enters every pair mask."""
    return digest(Label.MASK_SET, data(assignment_digest), data(roster_digest), numbers(members))


def survivor_bytes(mask_set: Digest, survivors: Sequence[int], bundles: Sequence[int]) -> bytes:
    """Return what survivors sign; `mask_set` stands for both documents and U2."""
    return encode(Label.SURVIVORS, data(mask_set), numbers(survivors), numbers(bundles))


def survivor_digest(mask_set: Digest, survivors: Sequence[int], bundles: Sequence[int]) -> Digest:
    """Return the digest that an agent reveals for, once and for ever."""
    return Digest(hashlib.sha256(survivor_bytes(mask_set, survivors, bundles)).digest())


def upload_bytes(mask_set: Digest, index: int, bundles: Sequence[int], size_bytes: int, sha256: Digest) -> bytes:
    """Return what a member signs over its masked vector."""
    return encode(Label.UPLOAD, data(mask_set), u16(index), numbers(bundles), u64(size_bytes), data(sha256))


def derivation_salt(assignment_digest: Digest, roster_digest: Digest) -> bytes:
    """Return the salt of all key agreements: agents that were shown different documents share no key."""
    return encode(Label.SALT, data(assignment_digest), data(roster_digest))
