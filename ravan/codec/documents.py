"""Signed documents: serialise, sign, verify, parse - in this order, so that no unverified byte is interpreted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, overload

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.codec.plans import decode_plan, encode_plan
from ravan.codec.references import document_from_wire, document_to_wire
from ravan.codec.rounds import decode_assignment, decode_roster, encode_assignment, encode_roster
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.plan import JobPlan, ModelFile
from ravan.manifest.roster import Roster
from ravan.secagg import transcript
from ravan.secagg.keys import verify

__all__ = [
    "decode_assignment",
    "decode_plan",
    "decode_roster",
    "document_from_wire",
    "document_to_wire",
    "encode_assignment",
    "encode_plan",
    "encode_roster",
    "model_digest",
    "open_document",
    "sign_document",
]

MODEL_LABEL = b"ravan/v1/model-files"
"""Separates the digest of a file list from every other digest."""


def sign_document(kind: DocumentKind, payload: bytes, key: Ed25519PrivateKey) -> SignedDocument:
    """Sign the labelled digest of a payload with the manifest key."""
    message = transcript.document_signing_bytes(kind, payload)
    return SignedDocument(payload=payload, signature=key.sign(message))


@overload
def open_document(
    kind: Literal[DocumentKind.PLAN], signed: SignedDocument, manifest_public_key: bytes
) -> tuple[JobPlan, Digest]: ...
@overload
def open_document(
    kind: Literal[DocumentKind.ASSIGNMENT], signed: SignedDocument, manifest_public_key: bytes
) -> tuple[Assignment, Digest]: ...
@overload
def open_document(
    kind: Literal[DocumentKind.ROSTER], signed: SignedDocument, manifest_public_key: bytes
) -> tuple[Roster, Digest]: ...
def open_document(
    kind: DocumentKind, signed: SignedDocument, manifest_public_key: bytes
) -> tuple[JobPlan | Assignment | Roster, Digest]:
    """Verify a document under the manifest key (32 bytes), then parse it; return it with its digest.

    Raises ProtocolError: SIGNATURE_INVALID, or MALFORMED.
    """
    message = transcript.document_signing_bytes(kind, signed.payload)
    verify(manifest_public_key, signed.signature, message, f"the coordinator's {kind.value}")
    return _DECODERS[kind](signed.payload), transcript.document_digest(kind, signed.payload)


def model_digest(files: Sequence[ModelFile]) -> Digest:
    """Return the digest over a base model's file list: name, length and hash of each, by name."""
    state = hashlib.sha256(transcript.data(MODEL_LABEL))
    for file in sorted(files, key=lambda each: each.path):
        state.update(transcript.data(file.path.encode()) + transcript.u64(file.size_bytes))
        state.update(transcript.data(file.sha256))
    return Digest(state.digest())


_DECODERS: Mapping[DocumentKind, Callable[[bytes], JobPlan | Assignment | Roster]] = {
    DocumentKind.PLAN: decode_plan,
    DocumentKind.ASSIGNMENT: decode_assignment,
    DocumentKind.ROSTER: decode_roster,
}
