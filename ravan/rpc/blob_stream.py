"""Content over a line that may break: chunked downloads and uploads, resumed and checked by hash.

gRPC retries no stream, so these do: a broken line is tried again with growing pauses, damaged
content a few times, and whatever the coordinator refuses is final.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from grpc import aio

from ravan.codec.chunks import CHUNK_BYTES, ChunkSequence, content_digest, frame, hash_mismatch, offset_mismatch
from ravan.codec.references import blob_to_wire
from ravan.disk import disk_full, move_durably, room_in
from ravan.errors import ErrorReason, ResourceError, TransferError
from ravan.ids import Digest
from ravan.rpc.pace import UNPACED, Pace
from ravan.rpc.status import DETAIL_KEY, error_from_rpc, is_turned_away
from ravan.wire.v1 import operator_service_pb2, transfer_service_pb2

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""

GO_ON: Final = ("ravan-go-on", "1")
"""Initial metadata with which the receiver of a stream asks for what follows the first message."""

PASSING: Final = frozenset({ErrorReason.DISK_FULL, ErrorReason.TOO_MANY_CALLS, ErrorReason.UNREACHABLE})
"""Refusals that end without the caller: an operator makes room, a database comes back, others hang up."""

UPLOAD_S: Final = 86_400.0
"""Longest upload of one file, which cannot go on where it broke: 28 GB at 3 Mbit/s."""

_SPOILED: Final = frozenset({ErrorReason.CHUNK_CORRUPT, ErrorReason.HASH_MISMATCH})
_SPOILED_LIMIT: Final = 5
"""Times that damaged content is fetched again; TLS lets no line damage it, so a machine is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """How a download is received."""

    size_bytes: int | None = None
    """What it has to have; None takes any."""
    progress: Progress | None = None
    make_room: Callable[[int], None] | None = None
    """Called in a thread with the bytes to come before the first is written; raises ResourceError."""
    pace: Pace = UNPACED


_ANYHOW: Final = Intake()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to go on after failures."""

    attempts: int | None
    """Failures without a byte of progress between them; None goes on until the caller is cancelled."""
    first_s: float
    longest_s: float
    until: Callable[[], Awaitable[object]] | None = None
    """Awaited after each pause, where somebody else says when the line may be tried again."""


HASTY: Final = Patience(attempts=4, first_s=0.2, longest_s=3.0)
"""For a person who waits: gives up after about a second without any progress."""

ENDLESS: Final = Patience(attempts=None, first_s=0.5, longest_s=30.0)
"""For an agent, whose session ends the transfer when the round no longer needs it."""


class Trial:
    """Count the failures of one transfer and pause after each."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._spoiled = 0

    def advance(self) -> None:
        """Note that the line works."""
        self._failures = 0

    async def pause(self, error: aio.AioRpcError | TransferError) -> None:
        """Wait before the next attempt, or raise `error` when there shall be none."""
        reason = reason_of(error)
        self._failures += 1
        self._spoiled += reason in _SPOILED
        if not self._may_go_on(reason):
            raise error
        longest = min(self._patience.longest_s, self._patience.first_s * 2 ** min(self._failures - 1, 16))
        # all agents lose their line at once when the coordinator restarts, and must not return at once
        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret
        if self._patience.until is not None:
            await self._patience.until()

    def _may_go_on(self, reason: ErrorReason | None) -> bool:
        attempts = self._patience.attempts
        if reason in _SPOILED:
            return self._spoiled < _SPOILED_LIMIT
        if reason in {None, ErrorReason.OFFSET_MISMATCH}:
            return attempts is None or self._failures < attempts
        # An agent does not lose its hour of training for them.
        return reason in PASSING and attempts is None


def reason_of(error: aio.AioRpcError | TransferError) -> ErrorReason | None:
    """Return why the peer refused, or None when the line broke without a word from it."""
    if isinstance(error, TransferError):
        return error.reason
    if is_turned_away(error):
        return ErrorReason.TOO_MANY_CALLS
    metadata = error.trailing_metadata()
    if metadata is None or metadata.get(DETAIL_KEY) is None:
        return None
    return error_from_rpc(error, address="", authority="").reason


async def download(
    call: Callable[[Any], Any],
    digest: Digest,
    path: Path,
    *,
    intake: Intake = _ANYHOW,
    request: Callable[..., Any] = operator_service_pb2.DownloadBlobRequest,
    patience: Patience = HASTY,
) -> None:
    """Fetch content by hash to `path`, going on from an unfinished `path.part`.

    `call` is the stub's method and `request` its message. Raises AioRpcError as it came, TransferError
    (HASH_MISMATCH, CHUNK_CORRUPT) after some tries, ResourceError (DISK_FULL), which leaves nothing.
    """
    partial = path.with_name(path.name + ".part")
    trial = Trial(patience)
    while True:
        try:
            await _fetch_rest(lambda offset: call(request(sha256=digest, offset=offset)), partial, intake, trial)
            await asyncio.to_thread(_settle, partial, path, digest)
        except ResourceError:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
            raise
        except (aio.AioRpcError, TransferError) as error:
            if _must_begin_anew(error):
                await asyncio.to_thread(partial.unlink, missing_ok=True)
            await trial.pause(error)
        else:
            return


async def upload(
    call: Callable[..., Any],
    digest: Digest,
    path: Path,
    *,
    progress: Progress | None = None,
    patience: Patience = HASTY,
) -> bool:
    """Send a file's content to `UploadBlob`; return whether it was there already.

    Raises AioRpcError as it came, and OSError when the file cannot be read.
    """
    size_bytes = (await asyncio.to_thread(path.stat)).st_size
    announcement = operator_service_pb2.UploadBlobRequest(blob=blob_to_wire(digest, size_bytes))
    trial = Trial(patience)
    while True:
        try:
            answer = await send_stream(
                call(timeout=UPLOAD_S), announcement, _blob_parts(path, tracked(progress, trial, size_bytes))
            )
        except aio.AioRpcError as error:
            await trial.pause(error)
        else:
            return bool(answer.existed)


async def send_stream(call: Any, first: Any, parts: AsyncGenerator[Any, None]) -> Any:
    """Send `first`, wait until the peer accepts it, send the rest and return the answer.

    A write that fails hides the peer's refusal (gRPC reports an error of its own), so nothing more is
    written until the peer's initial metadata is `GO_ON`; a refusal comes with empty metadata.
    """
    try:
        await call.write(first)
        if _accepted(await call.initial_metadata()):
            async with aclosing(parts):
                async for part in parts:
                    await call.write(part)
            await call.done_writing()
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the call has ended; its own status says how
    except BaseException:
        call.cancel()
        raise
    return await call


def _accepted(metadata: Any) -> bool:
    return GO_ON in {(key, value) for key, value in metadata or ()}


async def read_chunks(
    path: Path, offset: int, moved: Progress | None = None, chunk_bytes: int = CHUNK_BYTES
) -> AsyncGenerator[transfer_service_pb2.Chunk, None]:
    """Yield a file's chunks from `offset`, telling `moved` whenever the taker comes back for the next one."""
    # Opened here for the reason that stands at `_fetch_rest`.
    with path.open("rb") as file:
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, chunk_bytes):
            yield frame(offset, data)
            offset += len(data)
            if moved is not None:
                moved(offset, size_bytes)


def tracked(progress: Progress | None, trial: Trial, size_bytes: int) -> Progress:
    """Return a progress that also tells the trial that the line works."""

    def tell(done: int, _: int) -> None:
        trial.advance()
        if progress is not None:
            progress(done, size_bytes)

    return tell


async def _blob_parts(path: Path, moved: Progress) -> AsyncGenerator[operator_service_pb2.UploadBlobRequest, None]:
    async with aclosing(read_chunks(path, 0, moved)) as chunks:
        async for chunk in chunks:
            yield operator_service_pb2.UploadBlobRequest(chunk=chunk)


def _must_begin_anew(error: aio.AioRpcError | TransferError) -> bool:
    """Tell whether what is held cannot be continued: it is wrong, or longer than the whole."""
    reason = reason_of(error)
    refused = isinstance(error, aio.AioRpcError)
    return reason is ErrorReason.HASH_MISMATCH or (refused and reason is ErrorReason.OFFSET_MISMATCH)


async def _fetch_rest(
    open_at: Callable[[int], Any],
    partial: Path,
    intake: Intake,
    trial: Trial,
) -> None:
    # Opened here and not in a thread, which would leave it open when this is called off meanwhile.
    with room_in(partial.parent), partial.open("ab") as file:
        sequence: ChunkSequence | None = None
        parts = open_at(file.tell())
        try:
            async for part in parts:
                if sequence is None:
                    sequence = await asyncio.to_thread(_begin, part.size_bytes, file, partial, intake)
                    moved = tracked(intake.progress, trial, part.size_bytes)
                await asyncio.to_thread(file.write, sequence.accept(part.chunk))
                moved(sequence.offset, part.size_bytes)
                await intake.pace.wait_for(len(part.chunk.data))
        finally:
            parts.cancel()
        await asyncio.to_thread(_sync, file)
        if sequence is not None and not sequence.complete:
            raise offset_mismatch(sequence.offset, part.size_bytes)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _begin(announced: int, file: BinaryIO, partial: Path, intake: Intake) -> ChunkSequence:
    """Check what is known before the first byte is written."""
    if intake.size_bytes is not None and announced != intake.size_bytes:
        raise TransferError(
            f"The content has {announced} bytes instead of {intake.size_bytes}.",
            reason=ErrorReason.TOO_LARGE,
            next_step="Submit the job again; if it recurs, take the model in again.",
        )
    if intake.make_room is not None:
        intake.make_room(announced - file.tell())
    if shutil.disk_usage(partial.parent).free < announced - file.tell():
        raise disk_full(partial.parent)
    return ChunkSequence(offset=file.tell(), size_bytes=announced)


def _settle(partial: Path, path: Path, digest: Digest) -> None:
    with partial.open("rb") as file:
        if content_digest(file) != digest:
            raise hash_mismatch(digest)
    move_durably(partial, path)
