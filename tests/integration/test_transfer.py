"""Transfers over real TLS: resumed after real cuts, checked, refused with a sentence, and never half there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from mounted_disk import mounted_disk
from transfer_ports import (
    QUICK,
    ROUND,
    Coordinator,
    Line,
    connect,
    coordinator,
    digest_of,
    header_for,
    translate,
)

from coordinator.enrolment.pki import Pki, create_pki
from edge_agent.session.transfer import Downloads, Uploads
from edge_agent.storage.blob_cache import BlobCache
from edge_agent.storage.share import DiskShare
from ravan.codec.chunks import frame
from ravan.codec.references import round_to_wire
from ravan.codec.secagg_messages import header_to_wire
from ravan.errors import ErrorReason, RavanError, ResourceError
from ravan.identity.certificates import Role
from ravan.ids import SiteId
from ravan.rpc.blob_stream import GO_ON, download, upload
from ravan.rpc.pace import Pace
from ravan.wire.v1 import operator_service_pb2_grpc, transfer_service_pb2, transfer_service_pb2_grpc

MODEL = os.urandom(5 * (1 << 20) + 12345)
VECTOR = os.urandom(4 * (1 << 20) + 77)
LONG_S = 60


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return create_pki(tmp_path_factory.mktemp("pki") / "pki", ["localhost"], now=time.time())


@pytest.fixture
async def hq(pki: Pki, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with coordinator(pki, tmp_path / "hq") as served:
        yield served


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "vector"
    path.write_bytes(VECTOR)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "4m") as place:
        yield place


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that everybody wanted to sleep, and does not."""
    noted: list[float] = []
    real_sleep = asyncio.sleep

    async def note(delay: float) -> None:
        noted.append(delay)
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return noted


@asynccontextmanager
async def agent(hq: Coordinator, port: int | None = None, site: str = "plant-a") -> AsyncIterator[Any]:
    async with connect(hq.pki, port or hq.port, site) as channel:
        yield transfer_service_pb2_grpc.TransferServiceStub(channel)


@asynccontextmanager
async def operator(hq: Coordinator, port: int | None = None) -> AsyncIterator[Any]:
    async with connect(hq.pki, port or hq.port, "admin", Role.OPERATOR) as channel:
        yield operator_service_pb2_grpc.OperatorServiceStub(channel)


def offer(hq: Coordinator, data: bytes = MODEL) -> bytes:
    digest = hq.blobs.put(data)
    hq.allowed.add(digest)
    return digest


def cache_of(stub: Any, folder: Path, *, limit_bytes: int = 0, kib_per_s: int = 0) -> Downloads:
    cache = BlobCache(folder, DiskShare(limit_bytes=limit_bytes, folders=(folder,)))
    return Downloads(stub, cache, translate, QUICK, Pace(kib_per_s))


def begin_download(folder: Path, held: bytes) -> None:
    """Leave what another process had of MODEL when it ended."""
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / f"{digest_of(MODEL).hex()}.part").write_bytes(held)


def uploads_of(stub: Any, kib_per_s: int = 0) -> Uploads:
    return Uploads(stub, lambda: nullcontext(stub), translate, QUICK, Pace(kib_per_s))


async def status_of(stub: Any, data: bytes = VECTOR) -> tuple[int, bool]:
    request = transfer_service_pb2.GetUploadStatusRequest(round=round_to_wire(ROUND), index=2, sha256=digest_of(data))
    answer = await stub.GetUploadStatus(request, timeout=20)
    return answer.committed_bytes, answer.complete


async def test_a_blob_is_fetched_once_and_cached(hq: Coordinator, tmp_path: Path) -> None:
    digest = digest_of(MODEL)
    offer(hq)
    steps: list[tuple[int, int]] = []
    async with agent(hq) as stub:
        cache = cache_of(stub, tmp_path / "cache")
        path = await cache.fetch(digest, len(MODEL), lambda done, total: steps.append((done, total)))
        again = await asyncio.gather(cache.fetch(digest), cache.fetch(digest))
    assert path.read_bytes() == MODEL
    assert set(again) == {path}
    assert hq.servicer.offsets == [0]
    assert [step[0] for step in steps] == sorted({step[0] for step in steps})
    assert steps[-1] == (len(MODEL), len(MODEL))


async def test_an_empty_blob_is_fetched(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq, b"")
    async with agent(hq) as stub:
        assert (await cache_of(stub, tmp_path / "cache").fetch(digest_of(b""))).read_bytes() == b""


async def test_a_download_goes_on_after_each_cut(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq)
    line = Line([3 << 20, 2 << 20])
    async with line.to(hq.port) as port, agent(hq, port) as stub, asyncio.timeout(LONG_S):
        path = await cache_of(stub, tmp_path / "cache").fetch(digest_of(MODEL))
    assert path.read_bytes() == MODEL
    assert line.connections >= 3
    first, *later = hq.servicer.offsets
    assert first == 0
    assert later
    assert all(offset > 0 for offset in later)


async def test_a_download_goes_on_in_the_next_process(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq)
    folder = tmp_path / "cache"
    begin_download(folder, MODEL[:1234567])
    async with agent(hq) as stub:
        path = await cache_of(stub, folder).fetch(digest_of(MODEL))
    assert path.read_bytes() == MODEL
    assert hq.servicer.offsets == [1234567]
    assert list((folder / "blobs").iterdir()) == [path]


@pytest.mark.parametrize("held", [b"wrong" + MODEL[5:2000000], MODEL + b"too long"])
async def test_an_unfinished_file_that_is_wrong_is_fetched_anew(hq: Coordinator, tmp_path: Path, held: bytes) -> None:
    offer(hq)
    folder = tmp_path / "cache"
    begin_download(folder, held)
    async with agent(hq) as stub:
        path = await cache_of(stub, folder).fetch(digest_of(MODEL))
    assert path.read_bytes() == MODEL
    assert hq.servicer.offsets == [len(held), 0]


async def test_a_damaged_cache_file_is_fetched_anew(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq)
    async with agent(hq) as stub:
        path = await cache_of(stub, tmp_path / "cache").fetch(digest_of(MODEL))
        path.write_bytes(MODEL[:-1] + b"?")
        assert await cache_of(stub, tmp_path / "cache").fetch(digest_of(MODEL)) == path
    assert path.read_bytes() == MODEL
    assert hq.servicer.offsets == [0, 0]


async def test_a_basis_is_made_on_demand(hq: Coordinator, tmp_path: Path) -> None:
    hq.bases[digest_of(MODEL)] = MODEL
    folder = tmp_path / "cache"
    begin_download(folder, MODEL[:100])
    async with agent(hq) as stub:
        assert (await cache_of(stub, folder).fetch(digest_of(MODEL))).read_bytes() == MODEL
    assert hq.servicer.offsets == [100]


async def refusal_of_fetch(hq: Coordinator, folder: Path, data: bytes, size: int | None = None) -> RavanError:
    async with agent(hq) as stub:
        with pytest.raises(RavanError) as caught:
            await cache_of(stub, folder).fetch(digest_of(data), size)
    return caught.value


async def test_what_is_not_for_agents_looks_absent(hq: Coordinator, tmp_path: Path) -> None:
    hq.blobs.put(b"the held-out file")
    hidden = await refusal_of_fetch(hq, tmp_path / "cache", b"the held-out file")
    absent = await refusal_of_fetch(hq, tmp_path / "cache", b"never stored")
    assert hidden.reason is absent.reason is ErrorReason.BLOB_MISSING
    assert str(hidden).replace(digest_of(b"the held-out file").hex(), "") == str(absent).replace(
        digest_of(b"never stored").hex(), ""
    )


async def test_content_that_was_damaged_at_hq_never_gets_its_name(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq)
    hq.blobs.path(digest_of(MODEL)).write_bytes(b"rot")
    refusal = await refusal_of_fetch(hq, tmp_path / "cache", MODEL)
    assert refusal.reason is ErrorReason.HASH_MISMATCH
    assert list((tmp_path / "cache" / "blobs").iterdir()) == []


async def test_another_length_than_the_plan_says_is_refused_before_writing(hq: Coordinator, tmp_path: Path) -> None:
    offer(hq)
    refusal = await refusal_of_fetch(hq, tmp_path / "cache", MODEL, len(MODEL) - 1)
    assert refusal.reason is ErrorReason.TOO_LARGE
    assert [path.stat().st_size for path in (tmp_path / "cache" / "blobs").iterdir()] == [0]


async def test_a_full_disk_at_the_site_leaves_nothing(hq: Coordinator, small_disk: Path) -> None:
    offer(hq)
    refusal = await refusal_of_fetch(hq, small_disk / "cache", MODEL)
    assert isinstance(refusal, ResourceError)
    assert refusal.reason is ErrorReason.DISK_FULL
    assert list((small_disk / "cache" / "blobs").iterdir()) == []


async def test_a_disk_that_runs_full_in_mid_download_leaves_nothing(hq: Coordinator, small_disk: Path) -> None:
    data = MODEL[: 3 << 20]
    offer(hq, data)
    hog = small_disk / "hog"

    def fill(done: int, total: int) -> None:
        if not hog.exists():
            hog.write_bytes(bytes(2 << 20))

    async with agent(hq) as stub:
        with pytest.raises(ResourceError) as caught:
            await cache_of(stub, small_disk / "cache").fetch(digest_of(data), None, fill)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert list((small_disk / "cache" / "blobs").iterdir()) == []


async def test_what_is_over_the_agents_share_of_the_disk_is_not_fetched(hq: Coordinator, tmp_path: Path) -> None:
    small, folder = os.urandom(1 << 20), tmp_path / "cache"
    offer(hq)
    offer(hq, small)
    async with agent(hq) as stub:
        cache = cache_of(stub, folder, limit_bytes=len(MODEL) - 1)
        await cache.fetch(digest_of(small))
        with pytest.raises(ResourceError) as caught:
            await cache.fetch(digest_of(MODEL), len(MODEL))
        assert caught.value.reason is ErrorReason.DISK_FULL
        assert "disk_limit_mb" in caught.value.next_step
        assert list((folder / "blobs").iterdir()) == []
        # What fits is taken all the same.
        assert (await cache.fetch(digest_of(small))).read_bytes() == small


async def test_a_limited_download_keeps_its_pace(hq: Coordinator, tmp_path: Path, waits: list[float]) -> None:
    offer(hq)
    async with agent(hq) as stub:
        path = await cache_of(stub, tmp_path / "cache", kib_per_s=1024).fetch(digest_of(MODEL))
    assert path.read_bytes() == MODEL
    # 5 MiB at 1 MiB/s: the last piece is due after what came before it, less the moments that passed.
    assert 3 < max(waits) <= 5


async def test_a_vector_arrives_under_the_certificates_site(hq: Coordinator, payload: Path) -> None:
    steps: list[tuple[int, int]] = []
    async with agent(hq, site="plant-c") as stub:
        await uploads_of(stub).send(header_for(VECTOR), payload, ROUND, lambda *step: steps.append(step))
        assert await status_of(stub) == (len(VECTOR), True)
    assert hq.desk.arrived_ == [(SiteId("plant-c"), ROUND, header_for(VECTOR), VECTOR)]
    assert hq.desk.announced == [(SiteId("plant-c"), ROUND, header_for(VECTOR))]
    assert sum(hq.stored) == len(VECTOR)
    assert steps[-1] == (len(VECTOR), len(VECTOR))


async def test_sending_again_stores_nothing_but_is_noted(hq: Coordinator, payload: Path) -> None:
    async with agent(hq) as stub:
        for _ in range(2):
            await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    assert len(hq.desk.arrived_) == 2
    assert sum(hq.stored) == len(VECTOR)


async def test_an_upload_goes_on_after_each_cut_without_storing_a_byte_twice(hq: Coordinator, payload: Path) -> None:
    line = Line([1 << 21, 1 << 21])
    async with line.to(hq.port) as port, agent(hq, port) as stub, asyncio.timeout(LONG_S):
        await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    assert line.connections >= 3
    assert [each[3] for each in hq.desk.arrived_] == [VECTOR]
    assert sum(hq.stored) == len(VECTOR)
    assert len(hq.desk.announced) >= 2


async def test_an_upload_goes_on_after_a_restart_of_the_coordinator(pki: Pki, tmp_path: Path, payload: Path) -> None:
    async with coordinator(pki, tmp_path / "hq") as before, agent(before) as stub:
        await send_raw(stub, [frame(0, VECTOR[: 1 << 20])])
        assert await status_of(stub) == (1 << 20, False)
    async with coordinator(pki, tmp_path / "hq") as after, agent(after) as stub:
        await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    assert [each[3] for each in after.desk.arrived_] == [VECTOR]
    assert sum(after.stored) == len(VECTOR) - (1 << 20)


async def send_raw(stub: Any, chunks: list[transfer_service_pb2.Chunk], *, whole: bool = True) -> Any:
    call = stub.Upload(timeout=LONG_S)
    header = header_to_wire(ROUND, header_for(VECTOR))
    await call.write(transfer_service_pb2.UploadRequest(header=header))
    assert GO_ON in tuple(await call.initial_metadata())
    for chunk in chunks:
        await call.write(transfer_service_pb2.UploadRequest(chunk=chunk))
    if whole:
        await call.done_writing()
    return await call


async def raw_refusal(stub: Any, chunks: list[transfer_service_pb2.Chunk]) -> RavanError:
    with pytest.raises(aio.AioRpcError) as caught:
        # a half-close that crosses the refusal would fail in its place
        await send_raw(stub, chunks, whole=False)
    return translate(caught.value)


async def test_a_corrupt_chunk_is_refused_and_what_came_before_is_kept(hq: Coordinator, payload: Path) -> None:
    corrupt = frame(1 << 20, VECTOR[1 << 20 : 2 << 20])
    corrupt.data = corrupt.data[:-1] + bytes([corrupt.data[-1] ^ 1])
    async with agent(hq) as stub:
        refusal = await raw_refusal(stub, [frame(0, VECTOR[: 1 << 20]), corrupt])
        assert refusal.reason is ErrorReason.CHUNK_CORRUPT
        assert await status_of(stub) == (1 << 20, False)
        assert hq.desk.arrived_ == []
        await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    assert [each[3] for each in hq.desk.arrived_] == [VECTOR]


async def test_a_chunk_out_of_place_is_refused(hq: Coordinator) -> None:
    async with agent(hq) as stub:
        refusal = await raw_refusal(stub, [frame(5, VECTOR[5:10])])
        assert refusal.reason is ErrorReason.OFFSET_MISMATCH
        assert await status_of(stub) == (0, False)


async def test_a_second_header_is_refused(hq: Coordinator) -> None:
    async with agent(hq) as stub:
        call = stub.Upload(timeout=LONG_S)
        for _ in range(2):
            header = header_to_wire(ROUND, header_for(VECTOR))
            await call.write(transfer_service_pb2.UploadRequest(header=header))
        with pytest.raises(aio.AioRpcError) as caught:
            await call
    assert translate(caught.value).reason is ErrorReason.MALFORMED


async def test_a_payload_with_another_hash_is_refused_and_removed(hq: Coordinator, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(VECTOR[:-1] + b"?" if VECTOR[-1:] != b"?" else VECTOR[:-1] + b"!")
    async with agent(hq) as stub:
        with pytest.raises(RavanError) as caught:
            await uploads_of(stub).send(header_for(VECTOR), other, ROUND)
        assert caught.value.reason is ErrorReason.HASH_MISMATCH
        assert await status_of(stub) == (0, False)
    assert hq.desk.arrived_ == []


async def test_a_refused_header_reaches_the_agent_as_its_sentence(hq: Coordinator, payload: Path) -> None:
    hq.desk.refuse = True
    async with agent(hq) as stub:
        with pytest.raises(RavanError, match="signature is not valid") as caught:
            await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID
    assert sum(hq.stored) == 0


async def test_a_site_sees_its_own_uploads_alone(hq: Coordinator, payload: Path) -> None:
    async with agent(hq) as stub:
        await uploads_of(stub).send(header_for(VECTOR), payload, ROUND)
    async with agent(hq, site="plant-b") as stub:
        assert await status_of(stub) == (0, False)


async def test_an_upload_waits_for_room_at_the_coordinator(
    pki: Pki, tmp_path: Path, small_disk: Path, payload: Path
) -> None:
    vector = VECTOR[: 3 << 20]
    os.truncate(payload, len(vector))
    hog = small_disk / "hog"
    hog.write_bytes(bytes(2 << 20))
    refused = asyncio.Event()

    class Waiting(Uploads):
        async def _pause(self, trial: Any, error: aio.AioRpcError) -> None:
            # a line that breaks on a busy machine is tried again as well, and is not what this is about
            if translate(error).reason is ErrorReason.DISK_FULL:
                refused.set()
            await super()._pause(trial, error)

    async with coordinator(pki, tmp_path / "hq", staging=small_disk / "staging") as hq, agent(hq) as stub:
        sending = asyncio.create_task(
            Waiting(stub, lambda: nullcontext(stub), translate, QUICK).send(header_for(vector), payload, ROUND)
        )
        async with asyncio.timeout(LONG_S):
            waiting = asyncio.create_task(refused.wait())
            await asyncio.wait({sending, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert refused.is_set(), sending.exception()
            assert sum(hq.stored) == 0
            hog.unlink()
            await sending
    assert len(hq.desk.arrived_) == 1


async def test_a_limited_upload_sends_small_chunks_at_its_pace(
    hq: Coordinator, payload: Path, waits: list[float]
) -> None:
    vector = VECTOR[: 64 << 10]
    os.truncate(payload, len(vector))
    async with agent(hq) as stub:
        steps: list[int] = []
        await uploads_of(stub, 1).send(header_for(vector), payload, ROUND, lambda done, _: steps.append(done))
    assert steps == [16 << 10, 32 << 10, 48 << 10, 64 << 10]
    # at 1 KiB/s the chunks are due after 0, 16, 32 and 48 seconds; what had passed was not waited for
    assert 40 < max(waits) <= 48


async def test_an_operator_sends_a_blob_once_and_fetches_it(hq: Coordinator, tmp_path: Path) -> None:
    file, copy = tmp_path / "model", tmp_path / "copy"
    file.write_bytes(MODEL)
    async with operator(hq) as stub:
        assert not await upload(stub.UploadBlob, digest_of(MODEL), file)
        assert await upload(stub.UploadBlob, digest_of(MODEL), file)
        await download(stub.DownloadBlob, digest_of(MODEL), copy)
    assert copy.read_bytes() == MODEL
    assert list(hq.blobs.incoming.iterdir()) == []


async def test_an_operator_goes_on_after_a_cut(hq: Coordinator, tmp_path: Path) -> None:
    file, copy = tmp_path / "model", tmp_path / "copy"
    file.write_bytes(MODEL)
    up, down = Line([2 << 20]), Line([2 << 20])
    async with up.to(hq.port) as port, operator(hq, port) as stub, asyncio.timeout(LONG_S):
        await upload(stub.UploadBlob, digest_of(MODEL), file)
    async with down.to(hq.port) as port, operator(hq, port) as stub, asyncio.timeout(LONG_S):
        await download(stub.DownloadBlob, digest_of(MODEL), copy)
    assert copy.read_bytes() == MODEL
    assert up.connections == down.connections == 2


async def test_an_operators_blob_with_another_hash_is_refused(hq: Coordinator, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(MODEL)
    async with operator(hq) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await upload(stub.UploadBlob, digest_of(b"something else"), file)
    assert translate(caught.value).reason is ErrorReason.HASH_MISMATCH
    assert list(hq.blobs.incoming.iterdir()) == []
    assert not hq.blobs.exists(digest_of(MODEL))


async def test_an_operator_learns_at_once_that_nobody_listens(hq: Coordinator, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(MODEL)
    await hq.server.stop(None)
    async with operator(hq) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await upload(stub.UploadBlob, digest_of(MODEL), file)
    assert translate(caught.value).reason is ErrorReason.UNREACHABLE
