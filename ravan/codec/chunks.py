"""Framing of long content: chunks that carry their offset and hash, and the check that they join up.

Both directions use it. A sender may continue from any offset; a receiver takes nothing that does
not continue what it has, and trusts no chunk whose hash is not its own.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, Final

from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest
from ravan.wire.v1 import transfer_service_pb2

LARGEST_CHUNK_BYTES: Final = 1 << 20
"""Longest data of a chunk that a receiver takes."""

CHUNK_BYTES: Final = 256 << 10
"""What a sender uses when nothing limits its rate: the coordinator holds a few chunks of every line that is busy."""

SMALL_CHUNK_BYTES: Final = 16 << 10
"""What a sender with a rate limit uses, so that the line is never taken for long."""

_READ_BYTES: Final = 1 << 20


def frame(offset: int, data: bytes) -> transfer_service_pb2.Chunk:
    """Return the chunk of `data` at `offset`."""
    return transfer_service_pb2.Chunk(offset=offset, data=data, sha256=hashlib.sha256(data).digest())


class ChunkSequence:
    """Follow the chunks of one content and refuse whichever does not fit."""

    def __init__(self, *, offset: int, size_bytes: int) -> None:
        """Expect the content of `size_bytes` to go on at `offset`."""
        self._offset = offset
        self._size_bytes = size_bytes

    @property
    def offset(self) -> int:
        """Return where the next chunk has to begin."""
        return self._offset

    @property
    def complete(self) -> bool:
        """Tell whether nothing is missing any more."""
        return self._offset == self._size_bytes

    def accept(self, chunk: transfer_service_pb2.Chunk) -> bytes:
        """Return the chunk's data and move on.

        Raises TransferError: CHUNK_CORRUPT, OFFSET_MISMATCH, TOO_LARGE. A refused chunk changes nothing.
        """
        data = chunk.data
        if not 0 < len(data) <= LARGEST_CHUNK_BYTES or hashlib.sha256(data).digest() != chunk.sha256:
            raise TransferError(
                f"The chunk at byte {chunk.offset} was damaged on the way.",
                reason=ErrorReason.CHUNK_CORRUPT,
                next_step="Send on from the last byte that arrived; if it recurs, check network card and memory.",
            )
        if chunk.offset != self._offset:
            raise offset_mismatch(self._offset, chunk.offset)
        if chunk.offset + len(data) > self._size_bytes:
            raise TransferError(
                f"More than the announced {self._size_bytes} bytes arrived.", reason=ErrorReason.TOO_LARGE
            )
        self._offset += len(data)
        return data


def offset_mismatch(expected: int, offset: int) -> TransferError:
    """Return the error for data that does not continue what is stored."""
    return TransferError(
        f"The next byte must be number {expected}, not {offset}.",
        reason=ErrorReason.OFFSET_MISMATCH,
        next_step="Ask how much is stored and go on from there.",
    )


def hash_mismatch(expected: Digest) -> TransferError:
    """Return the error for content that is whole but not what was announced."""
    return TransferError(
        f"The content is complete but its SHA-256 is not the announced {expected.hex()}.",
        reason=ErrorReason.HASH_MISMATCH,
        next_step="Send it again from the start; if it recurs, check the file and the disk.",
    )


def content_digest(file: BinaryIO) -> Digest:
    """Return the SHA-256 of a file from its present position to its end."""
    state = hashlib.sha256()
    while data := file.read(_READ_BYTES):
        state.update(data)
    return Digest(state.digest())
