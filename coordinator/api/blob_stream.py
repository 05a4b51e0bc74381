"""Content in and out of the blob store, chunk by chunk; the services wrap the chunks in their own messages."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final

from coordinator.store.blobs.base import BlobStore, OwnedBlobs
from ravan.codec.chunks import CHUNK_BYTES, ChunkSequence, frame, offset_mismatch
from ravan.codec.references import blob_from_wire
from ravan.disk import room_in
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest
from ravan.wire.v1 import common_pb2, transfer_service_pb2

MAX_BLOB_BYTES: Final = 64 << 30
"""Longest content that an operator may send; a model of 7 billion parameters in float32 takes 28 GB."""

Part = tuple[int, transfer_service_pb2.Chunk]
"""Length of the whole, and the next chunk."""


async def receive_blob(
    chunks: AsyncIterable[transfer_service_pb2.Chunk],
    ref: common_pb2.BlobRef,
    blobs: OwnedBlobs,
    accept: Callable[[], Awaitable[None]],
) -> bool:
    """Store announced content; return True without reading a chunk when it is here already.

    Senders wait for the call's initial metadata before the first chunk; `accept` sends it, once
    everything that can be refused beforehand was checked: `lambda: context.send_initial_metadata((GO_ON,))`.
    Raises TransferError (TOO_LARGE, CHUNK_CORRUPT, OFFSET_MISMATCH, HASH_MISMATCH) or ResourceError
    (DISK_FULL); nothing is left behind then.
    """
    sha256, size_bytes = blob_from_wire(ref)
    if await asyncio.to_thread(blobs.renew, sha256):
        return True
    _require_size(size_bytes)
    await asyncio.to_thread(blobs.quota.foresee, size_bytes)
    await accept()
    descriptor, name = tempfile.mkstemp(dir=blobs.incoming)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            await _write_chunks(chunks, file, size_bytes, blobs)
        await asyncio.to_thread(blobs.adopt, unfinished, sha256)
    finally:
        # not in a thread: gRPC cancels a broken call again while it cleans up
        _remove(unfinished)
    return False


def send_blob(blobs: BlobStore, digest: Digest, offset: int) -> AsyncIterator[Part]:
    """Return the chunks of a stored blob from `offset`.

    Raises TransferError: BLOB_MISSING, or OFFSET_MISMATCH for an offset past the end.
    """
    size_bytes = blobs.size(digest)
    _require_offset(offset, size_bytes)
    return _read_parts(blobs.path(digest).open("rb"), offset, size_bytes)


async def send_bytes(content: bytes, offset: int) -> AsyncIterator[Part]:
    """Yield the chunks of content in memory from `offset`; raise TransferError (OFFSET_MISMATCH) past the end."""
    _require_offset(offset, len(content))
    for begin in range(offset, len(content), CHUNK_BYTES):
        yield len(content), frame(begin, content[begin : begin + CHUNK_BYTES])


async def _read_parts(file: BinaryIO, offset: int, size_bytes: int) -> AsyncIterator[Part]:
    with file:
        file.seek(offset)
        while chunk := await asyncio.to_thread(_read_chunk, file, offset):
            yield size_bytes, chunk
            offset += len(chunk.data)


def _read_chunk(file: BinaryIO, offset: int) -> transfer_service_pb2.Chunk | None:
    """Return the next chunk with its hash, which is not for the event loop; None at the end."""
    data = file.read(CHUNK_BYTES)
    return frame(offset, data) if data else None


async def _write_chunks(
    chunks: AsyncIterable[transfer_service_pb2.Chunk], file: BinaryIO, size_bytes: int, blobs: OwnedBlobs
) -> None:
    sequence = ChunkSequence(offset=0, size_bytes=size_bytes)
    with room_in(blobs.incoming):
        async for chunk in chunks:
            data = sequence.accept(chunk)
            await asyncio.to_thread(blobs.quota.claim, len(data))
            await asyncio.to_thread(file.write, data)
        await asyncio.to_thread(file.flush)
    if not sequence.complete:
        raise offset_mismatch(sequence.offset, size_bytes)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _require_size(size_bytes: int) -> None:
    if size_bytes > MAX_BLOB_BYTES:
        raise TransferError(
            f"The content has {size_bytes} bytes; at most {MAX_BLOB_BYTES} are accepted.",
            reason=ErrorReason.TOO_LARGE,
            next_step="Leave files out that the model does not need.",
        )


def _require_offset(offset: int, size_bytes: int) -> None:
    if offset > size_bytes:
        raise offset_mismatch(size_bytes, offset)
