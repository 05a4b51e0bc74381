"""Content in chunks: whatever order, offset or damage they come with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fuzz.target import Format, Target, join_parts, require, split_parts
from ravan.codec import fields
from ravan.codec.chunks import ChunkSequence, frame
from ravan.errors import ErrorReason, ProtocolError, TransferError
from ravan.wire.v1 import transfer_service_pb2

_SIZE_BYTES: Final = 40


def _follow(data: bytes, read_chunk: Callable[[bytes], transfer_service_pb2.Chunk]) -> None:
    sequence = ChunkSequence(offset=0, size_bytes=_SIZE_BYTES)
    taken = b""
    try:
        for part in split_parts(data):
            taken += sequence.accept(read_chunk(part))
    finally:
        require(sequence.offset == len(taken) <= _SIZE_BYTES, "the sequence lost count of what it accepted")
        require(sequence.complete == (len(taken) == _SIZE_BYTES), "the sequence is wrong about its end")


def _read_sent(data: bytes) -> None:
    _follow(data, lambda part: fields.parse(transfer_service_pb2.Chunk, part, "chunk"))


def _read_framed(data: bytes) -> None:
    # hashes that mutations cannot hit by chance; the offset stays the sender's
    _follow(data, lambda part: frame(int.from_bytes(part[:1], "big"), part[1:]))


def _sent_chunks() -> Iterable[bytes]:
    chunks = (frame(0, bytes(25)), frame(25, bytes(15)))
    yield join_parts(*(chunk.SerializeToString() for chunk in chunks))


def _framed_chunks() -> Iterable[bytes]:
    yield join_parts(b"\0" + bytes(25), bytes([25]) + bytes(15))


CHUNKS: Final = Target(
    name="chunks",
    formats=(
        Format(name="sent chunks", read=_read_sent, seeds=_sent_chunks),
        Format(name="framed chunks", read=_read_framed, seeds=_framed_chunks),
    ),
    refusals={
        ProtocolError: frozenset({ErrorReason.MALFORMED}),
        TransferError: frozenset({ErrorReason.CHUNK_CORRUPT, ErrorReason.OFFSET_MISMATCH, ErrorReason.TOO_LARGE}),
    },
)
