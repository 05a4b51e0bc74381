"""What the agent fetches and sends: models and versions by hash into its cache, masked vectors in resumable chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from grpc import aio

from edge_agent.storage.blob_cache import BlobCache
from ravan.codec.chunks import CHUNK_BYTES, SMALL_CHUNK_BYTES, offset_mismatch
from ravan.codec.references import round_to_wire
from ravan.codec.secagg_messages import header_to_wire
from ravan.errors import RavanError
from ravan.ids import Digest
from ravan.manifest.instructions import RoundRef
from ravan.rpc.blob_stream import (
    ENDLESS,
    Intake,
    Patience,
    Progress,
    Trial,
    download,
    read_chunks,
    send_stream,
    tracked,
)
from ravan.rpc.pace import UNPACED, Pace
from ravan.secagg.messages import MaskedHeader
from ravan.wire.v1 import transfer_service_pb2

if TYPE_CHECKING:
    from edge_agent.session.line import Line

Translate = Callable[[aio.AioRpcError], RavanError]
"""Turns a failed call into an error with a sentence: `ravan.rpc.status.error_from_rpc` with address and authority."""

_TURN_DEADLINE_S: Final = 600.0
"""Of one wait for the turn to upload."""

_UPLOAD_DEADLINE_S: Final = 600.0
"""Of one attempt; a vector that takes longer goes on from where the coordinator's copy ends."""


class DownloadStub(Protocol):
    """The call that content comes by: generated code, or what stands in for it."""

    @property
    def Download(self) -> Any:  # noqa: N802 - the wire's name
        """Opens a download."""
        ...


class UploadStub(Protocol):
    """The call that a masked vector goes by."""

    @property
    def Upload(self) -> Any:  # noqa: N802 - the wire's name
        """Opens an upload."""
        ...


class StatusStub(Protocol):
    """The call by which an upload's turn is awaited."""

    @property
    def GetUploadStatus(self) -> Any:  # noqa: N802 - the wire's name
        """Asks how much has arrived."""
        ...


OpenUploads = Callable[[], AbstractAsyncContextManager[UploadStub]]
"""Opens a line for uploads, and hangs up at the end of the block."""


class CurrentTransfer:
    """Calls over the newest line, which each of them holds open until it has ended."""

    def __init__(self, current: Callable[[], Line]) -> None:
        self._current = current

    def Download(self, request: Any) -> Any:  # noqa: N802 - the wire's name
        """Open a download."""
        line = self._current()
        return line.hold(line.transfer.Download(request))

    def GetUploadStatus(self, request: Any, timeout: float) -> Any:  # noqa: N802 - the wire's name
        """Ask how much of an upload has arrived."""
        line = self._current()
        return line.hold(line.transfer.GetUploadStatus(request, timeout=timeout))


class Downloads:
    """Fetches content by hash into the agent's cache, where it is not there already."""

    def __init__(
        self,
        stub: DownloadStub,
        cache: BlobCache,
        translate: Translate,
        patience: Patience = ENDLESS,
        pace: Pace = UNPACED,
    ) -> None:
        """Fill this cache; `patience` says how long a broken line is tried again, and all downloads keep one pace."""
        self.cache = cache
        self._stub = stub
        self._translate = translate
        self._patience = patience
        self._pace = pace
        self._fetching: dict[Digest, asyncio.Lock] = {}

    async def fetch(self, digest: Digest, size_bytes: int | None = None, progress: Progress | None = None) -> Path:
        """Return the path of this content, downloading it where the cache has none or a damaged one.

        Tries a broken line until it is cancelled. Raises TransferError (BLOB_MISSING, HASH_MISMATCH,
        CHUNK_CORRUPT, TOO_LARGE), ResourceError (DISK_FULL) or what `translate` makes of a refusal.
        """
        async with self._fetching.setdefault(digest, asyncio.Lock()):
            path = await asyncio.to_thread(self.cache.find, digest)
            return path or await self._download(digest, size_bytes, progress)

    async def _download(self, digest: Digest, size_bytes: int | None, progress: Progress | None) -> Path:
        intake = Intake(size_bytes=size_bytes, progress=progress, make_room=self.cache.make_room, pace=self._pace)
        with self.cache.receiving(digest) as path:
            try:
                await download(
                    self._stub.Download,
                    digest,
                    path,
                    intake=intake,
                    request=transfer_service_pb2.DownloadRequest,
                    patience=self._patience,
                )
            except aio.AioRpcError as error:
                raise self._translate(error) from error
        return path


class Uploads:
    """Sends masked vectors; the same bytes under the same header, however often the line breaks."""

    def __init__(
        self,
        stub: StatusStub,
        open_line: OpenUploads,
        translate: Translate,
        patience: Patience = ENDLESS,
        pace: Pace = UNPACED,
    ) -> None:
        """Await each turn by `stub`, then open a line; `patience` says how long a broken one is tried again."""
        self._stub = stub
        self._open_line = open_line
        self._translate = translate
        self._patience = patience
        self._pace = pace

    async def send(
        self,
        header: MaskedHeader,
        path: Path,
        round_ref: RoundRef,
        progress: Progress | None = None,
    ) -> None:
        """Send the payload at `path` until the coordinator has the whole of it.

        Goes on where the coordinator's copy ends and tries a broken line until it is cancelled. Raises
        what `translate` makes of a refusal.
        """
        trial = Trial(self._patience)
        while True:
            try:
                committed = await self._turn(header, round_ref)
                async with self._open_line() as stub:
                    if await self._send_rest(stub, header, path, round_ref, committed, progress, trial):
                        return
            except aio.AioRpcError as error:
                await self._pause(trial, error)
            else:
                await trial.pause(offset_mismatch(header.size_bytes, committed))

    async def _turn(self, header: MaskedHeader, round_ref: RoundRef) -> int:
        """Wait until the coordinator has a place for the upload, and return how much of it arrived before."""
        request = transfer_service_pb2.GetUploadStatusRequest(
            round=round_to_wire(round_ref), index=header.index, sha256=header.sha256, await_turn=True
        )
        status = await self._stub.GetUploadStatus(request, timeout=_TURN_DEADLINE_S)
        return int(status.committed_bytes)

    async def _pause(self, trial: Trial, error: aio.AioRpcError) -> None:
        try:
            await trial.pause(error)
        except aio.AioRpcError as final:
            raise self._translate(final) from final

    async def _send_rest(
        self,
        stub: UploadStub,
        header: MaskedHeader,
        path: Path,
        round_ref: RoundRef,
        committed: int,
        progress: Progress | None,
        trial: Trial,
    ) -> bool:
        """Make one attempt; a complete upload sends its header alone, so that the coordinator surely notes it."""
        first = transfer_service_pb2.UploadRequest(header=header_to_wire(round_ref, header))
        moved = tracked(progress, trial, header.size_bytes)
        call = stub.Upload(timeout=_UPLOAD_DEADLINE_S)
        answer = await send_stream(call, first, _parts(path, committed, moved, self._pace))
        return bool(answer.complete)


async def _parts(
    path: Path, offset: int, moved: Progress, pace: Pace
) -> AsyncGenerator[transfer_service_pb2.UploadRequest, None]:
    """Yield the payload from `offset`, no faster than the pace; small chunks keep the line free for others."""
    chunk_bytes = SMALL_CHUNK_BYTES if pace.limited else CHUNK_BYTES
    async with aclosing(read_chunks(path, offset, moved, chunk_bytes)) as chunks:
        async for chunk in chunks:
            await pace.wait_for(len(chunk.data))
            yield transfer_service_pb2.UploadRequest(chunk=chunk)
