"""Names of rounds, files and documents as they travel inside other messages."""

from __future__ import annotations

from ravan.codec import fields
from ravan.ids import Digest
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import RoundRef
from ravan.manifest.plan import ModelFile
from ravan.wire.v1 import common_pb2

PATH_SEPARATORS = frozenset("/\\:")
"""What a bare file name must not hold, on any operating system that agents run on."""


def round_to_wire(value: RoundRef) -> common_pb2.RoundRef:
    """Convert the name of a round."""
    return common_pb2.RoundRef(
        run_id=value.run_id,
        round=value.round_number,
        assignment_digest=value.assignment_digest,
        roster_digest=value.roster_digest,
    )


def round_from_wire(wire: common_pb2.RoundRef, *, with_roster: bool = True) -> RoundRef:
    """Read the name of a round; its roster may be absent only where `with_roster` is False."""
    read_roster = fields.digest if with_roster else fields.optional_digest
    return RoundRef(
        run_id=fields.run_id(wire.run_id),
        round_number=fields.ranged(wire.round, 1, (1 << 63) - 1, "round number"),
        assignment_digest=fields.digest(wire.assignment_digest, "assignment digest"),
        roster_digest=read_roster(wire.roster_digest, "roster digest"),
    )


def blob_to_wire(sha256: Digest, size_bytes: int) -> common_pb2.BlobRef:
    """Convert hash and length of a blob."""
    return common_pb2.BlobRef(sha256=sha256, size_bytes=size_bytes)


def blob_from_wire(wire: common_pb2.BlobRef) -> tuple[Digest, int]:
    """Read hash and length of a blob."""
    size = fields.ranged(wire.size_bytes, 0, (1 << 63) - 1, "length of the content")
    return fields.digest(wire.sha256, "hash of the content"), size


def file_to_wire(value: ModelFile) -> common_pb2.FileRef:
    """Convert the name of a model file."""
    return common_pb2.FileRef(path=value.path, blob=blob_to_wire(value.sha256, value.size_bytes))


def file_from_wire(wire: common_pb2.FileRef) -> ModelFile:
    """Read the name of a model file; refuse every path that is not a bare name."""
    path = fields.text(wire.path, "file name")
    if path in {".", ".."} or PATH_SEPARATORS & set(path):
        raise fields.malformed("A model file's name must not hold a folder.")
    sha256, size_bytes = blob_from_wire(wire.blob)
    return ModelFile(path=path, sha256=sha256, size_bytes=size_bytes)


def document_to_wire(value: SignedDocument) -> common_pb2.SignedDocument:
    """Convert a signed document; its payload stays as it is."""
    return common_pb2.SignedDocument(payload=value.payload, signature=value.signature)


def document_from_wire(wire: common_pb2.SignedDocument) -> SignedDocument:
    """Read a signed document; nothing is verified yet."""
    signature = fields.fixed(wire.signature, fields.SIGNATURE_BYTES, "signature of the document")
    return SignedDocument(payload=wire.payload, signature=signature)
