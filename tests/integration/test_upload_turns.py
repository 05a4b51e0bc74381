"""A site waits for its turn to upload over the line that it has, and opens another only then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from transfer_ports import QUICK, ROUND, connect, coordinator, header_for, translate

from coordinator.enrolment.pki import create_pki
from edge_agent.session.transfer import Uploads
from ravan.codec.chunks import frame
from ravan.codec.secagg_messages import header_to_wire
from ravan.wire.v1 import transfer_service_pb2
from ravan.wire.v1.transfer_service_pb2_grpc import TransferServiceStub

LONG_S = 60
FOR_EVER_S = 3600.0
PIECE = 1 << 18


async def begin_upload(stub: Any, data: bytes) -> aio.StreamUnaryCall[Any, Any]:
    """Send the first piece of a vector, and stay."""
    call: aio.StreamUnaryCall[Any, Any] = stub.Upload(timeout=LONG_S)
    await call.write(transfer_service_pb2.UploadRequest(header=header_to_wire(ROUND, header_for(data))))
    await call.initial_metadata()
    await call.write(transfer_service_pb2.UploadRequest(chunk=frame(0, data[:PIECE])))
    return call


async def test_the_second_line_is_opened_when_there_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.api.transfer.AT_ONCE", 1)
    monkeypatch.setattr("coordinator.api.transfer.PERIOD_S", FOR_EVER_S)
    pki = create_pki(tmp_path / "pki", ["localhost"], now=time.time())
    vector, payload = os.urandom(3 * PIECE), tmp_path / "vector"
    payload.write_bytes(vector)
    dialled = asyncio.Event()
    async with (
        asyncio.timeout(LONG_S),
        coordinator(pki, tmp_path / "hq") as hq,
        connect(hq.pki, hq.port, "plant-a") as busy,
        connect(hq.pki, hq.port, "plant-b") as first,
    ):

        @asynccontextmanager
        async def own_line() -> AsyncIterator[Any]:
            dialled.set()
            async with connect(hq.pki, hq.port, "plant-b") as channel:
                yield TransferServiceStub(channel)

        standing = await begin_upload(TransferServiceStub(busy), os.urandom(2 * PIECE))
        uploads = Uploads(TransferServiceStub(first), own_line, translate, QUICK)
        sending = asyncio.create_task(uploads.send(header_for(vector), payload, ROUND))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dialled.wait(), 0.5)
        standing.cancel()
        await sending
        assert dialled.is_set()
        assert [(site, data) for site, _, _, data in hq.desk.arrived_] == [("plant-b", vector)]
