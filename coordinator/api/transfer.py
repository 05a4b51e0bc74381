"""TransferService: blobs down to agents, masked vectors up into staging."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from grpc import aio

from coordinator.api.blob_stream import Part, send_blob, send_bytes
from coordinator.daemon.turnstile import Place, Turnstile
from coordinator.store.blobs.base import BlobStore, blob_missing
from coordinator.store.staging import StagedUpload, Staging, UploadKey
from ravan.codec import fields
from ravan.codec.chunks import ChunkSequence
from ravan.codec.references import round_from_wire
from ravan.codec.secagg_messages import header_from_wire
from ravan.ids import Digest, SiteId
from ravan.manifest.instructions import RoundRef
from ravan.rpc.blob_stream import GO_ON
from ravan.rpc.caller import calling_site
from ravan.secagg.messages import MaskedHeader
from ravan.wire.v1 import transfer_service_pb2, transfer_service_pb2_grpc

AT_ONCE: Final = 8
"""Transfers over quick lines in each direction at the same time; more would be no faster."""

PERIOD_S: Final = 1.0
LEAST_BYTES: Final = 256 << 10
"""What a line moves in each period to count as quick; a thousand slower ones are all under way after two minutes."""

Context = aio.ServicerContext[Any, Any]
Requests = AsyncIterator[transfer_service_pb2.UploadRequest]


class UploadPort(Protocol):
    """Whoever runs the rounds, as far as uploads concern it."""

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        """Check a header before its first byte is stored; raise RavanError to refuse the upload."""
        ...

    async def arrived(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader, path: Path) -> None:
        """Take note of a whole, verified payload; the same one may be reported again."""
        ...


class TransferServicer(transfer_service_pb2_grpc.TransferServiceServicer):
    """Translate between the wire and stores; the site is always the certificate's."""

    def __init__(
        self,
        *,
        blobs: BlobStore,
        staging: Staging,
        uploads: UploadPort,
        basis: Callable[[Digest], bytes | None],
        may_download: Callable[[Digest], Awaitable[bool]],
        on_bytes: Callable[[int], None],
    ) -> None:
        """Serve from these.

        `may_download` says which stored blobs agents may have: model files and versions, never a job's
        or the held-out file. `basis` builds the basis blob of this hash anew, in a thread, or returns
        None. `on_bytes` hears of the masked bytes that each stream has stored.
        """
        self._blobs = blobs
        self._staging = staging
        self._uploads = uploads
        self._basis = basis
        self._may_download = may_download
        self._on_bytes = on_bytes
        self._downwards, self._upwards = (
            Turnstile(AT_ONCE, period_s=PERIOD_S, least_bytes=LEAST_BYTES) for _ in range(2)
        )

    async def Download(  # noqa: N802 - the service's name
        self, request: transfer_service_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[transfer_service_pb2.DownloadResponse]:
        """Send a blob from the offset that the agent asks for."""
        calling_site(context)
        digest = fields.digest(request.sha256, "hash")
        async with self._downwards.entry() as place:
            async for size_bytes, chunk in await self._open(digest, request.offset):
                yield transfer_service_pb2.DownloadResponse(size_bytes=size_bytes, chunk=chunk)
                place.move(len(chunk.data))

    async def Upload(  # noqa: N802 - the service's name
        self, request_iterator: Requests, context: Context
    ) -> transfer_service_pb2.UploadResponse:
        """Stage a masked vector from where it was left, and report it when it is whole."""
        site = calling_site(context)
        round_ref, header = await _read_header(request_iterator)
        await self._uploads.announce(site, round_ref, header)
        key = _key_of(site, round_ref, header.sha256)
        path = await asyncio.to_thread(self._staging.whole, key)
        if path is None:
            async with self._upwards.entry(site) as place:
                path = await self._stage(key, header, _counted(request_iterator, place), context)
        if path is None:
            status = await asyncio.to_thread(self._staging.status, key)
            return transfer_service_pb2.UploadResponse(committed_bytes=status.committed_bytes, complete=False)
        await self._uploads.arrived(site, round_ref, header, path)
        return transfer_service_pb2.UploadResponse(committed_bytes=header.size_bytes, complete=True)

    async def GetUploadStatus(  # noqa: N802 - the service's name
        self, request: transfer_service_pb2.GetUploadStatusRequest, context: Context
    ) -> transfer_service_pb2.GetUploadStatusResponse:
        """Tell how much of the calling site's vector is stored, in its turn if it asks for one."""
        site = calling_site(context)
        key = _key_of(site, round_from_wire(request.round), fields.digest(request.sha256, "hash of the payload"))
        status = await asyncio.to_thread(self._staging.status, key)
        if request.await_turn and not status.complete:
            await self._upwards.reserve(site)
            status = await asyncio.to_thread(self._staging.status, key)
        return transfer_service_pb2.GetUploadStatusResponse(
            committed_bytes=status.committed_bytes, complete=status.complete
        )

    async def _open(self, digest: Digest, offset: int) -> AsyncIterator[Part]:
        if not await asyncio.to_thread(self._blobs.exists, digest):
            basis = await asyncio.to_thread(self._basis, digest)
            if basis is None:
                raise blob_missing(digest)
            return send_bytes(basis, offset)
        # the same answer as for an absent blob: a site learns nothing about what else is stored
        if not await self._may_download(digest):
            raise blob_missing(digest)
        return await asyncio.to_thread(send_blob, self._blobs, digest, offset)

    async def _stage(self, key: UploadKey, header: MaskedHeader, requests: Requests, context: Context) -> Path | None:
        """Store what comes; return the path when it is whole, None when the agent stopped before."""
        stream = await asyncio.to_thread(self._staging.open, key, header.size_bytes)
        try:
            # agents wait for it: whatever is refused before the first chunk reaches them as a sentence
            await context.send_initial_metadata((GO_ON,))
            if not await self._append(stream, header.size_bytes, requests):
                return None
            return await asyncio.to_thread(stream.finish)
        finally:
            await asyncio.shield(self._begin_closing(key, stream))

    def _begin_closing(self, key: UploadKey, stream: StagedUpload) -> asyncio.Future[None]:
        """Close in a thread, whatever becomes of the call: gRPC cancels a broken one again while it cleans up.

        Closing waits for a write that was under way when the line broke, so its bytes are counted as well.
        """
        closing = asyncio.get_running_loop().run_in_executor(None, self._staging.close, key, stream)
        closing.add_done_callback(lambda _: self._on_bytes(stream.appended_bytes))
        return closing

    async def _append(self, stream: StagedUpload, size_bytes: int, requests: Requests) -> bool:
        sequence = ChunkSequence(offset=stream.committed_bytes, size_bytes=size_bytes)
        async for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise fields.malformed("A header may only open an upload.")
            await asyncio.to_thread(_append_chunk, stream, sequence, request.chunk)
        return sequence.complete


def _append_chunk(stream: StagedUpload, sequence: ChunkSequence, chunk: transfer_service_pb2.Chunk) -> None:
    """Check and store a chunk: hashing, too, is not for the event loop."""
    offset = sequence.offset
    stream.append(offset, sequence.accept(chunk))


async def _counted(requests: Requests, place: Place) -> Requests:
    async for request in requests:
        yield request
        place.move(len(request.chunk.data))


async def _read_header(requests: Requests) -> tuple[RoundRef, MaskedHeader]:
    async for request in requests:
        if request.WhichOneof("part") != "header":
            raise fields.malformed("An upload must begin with its header.")
        return header_from_wire(request.header)
    raise fields.malformed("The upload is empty.")


def _key_of(site: SiteId, round_ref: RoundRef, sha256: Digest) -> UploadKey:
    return UploadKey(run_id=round_ref.run_id, round_number=round_ref.round_number, site=site, sha256=sha256)
