"""One site floods the transfers of a coordinator over mutual TLS: it exhausts its own limits and nobody else's."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from transfer_ports import QUICK, ROUND, Coordinator, connect, coordinator, digest_of, header_for, translate

from coordinator.enrolment.pki import Pki, create_pki
from edge_agent.session.transfer import Uploads
from ravan.codec.chunks import frame
from ravan.codec.references import round_to_wire
from ravan.codec.secagg_messages import header_to_wire
from ravan.errors import ErrorReason
from ravan.rpc.admission import CallLimits
from ravan.wire.v1 import transfer_service_pb2
from ravan.wire.v1.transfer_service_pb2_grpc import TransferServiceStub

LONG_S = 120
OPENINGS = 40
LIMITS = CallLimits(site_calls_per_s=20, site_burst=60)
PIECE = 4096


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return create_pki(tmp_path_factory.mktemp("pki") / "pki", ["localhost"], now=time.time())


class Flooder:
    """Opens uploads that it never ends and asks without pause, over several connections."""

    def __init__(self, stubs: list[Any]) -> None:
        self._stubs = stubs
        self.refusals: list[ErrorReason] = []
        self.half_sent: list[Any] = []
        self.asked = 0

    async def open_uploads(self) -> None:
        """Begin one upload after the other, each of another content, and send a piece of each."""
        for number in range(OPENINGS):
            data = bytes([number]) * (2 * PIECE)
            call = self._stubs[number % len(self._stubs)].Upload(timeout=LONG_S)
            try:
                await call.write(transfer_service_pb2.UploadRequest(header=header_to_wire(ROUND, header_for(data))))
                await call.write(transfer_service_pb2.UploadRequest(chunk=frame(0, data[:PIECE])))
                if not tuple(await call.initial_metadata() or ()):
                    await call
                self.half_sent.append(call)
            except (aio.AioRpcError, asyncio.InvalidStateError):
                await self._note(call)

    async def ask(self, stop: asyncio.Event, stub: Any) -> None:
        request = transfer_service_pb2.GetUploadStatusRequest(round=round_to_wire(ROUND), sha256=digest_of(b""))
        while not stop.is_set():
            self.asked += 1
            try:
                await stub.GetUploadStatus(request, timeout=LONG_S)
            except aio.AioRpcError as error:
                self.refusals.append(translate(error).reason)

    async def _note(self, call: Any) -> None:
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        self.refusals.append(translate(caught.value).reason)


async def upload_honestly(hq: Coordinator, folder: Path, site: str) -> bytes:
    data = os.urandom(3 << 20)
    path = folder / site
    await asyncio.to_thread(path.write_bytes, data)
    async with connect(hq.pki, hq.port, site) as channel:
        stub: Any = TransferServiceStub(channel)
        await Uploads(stub, lambda: nullcontext(stub), translate, QUICK).send(header_for(data), path, ROUND)
    return data


async def test_others_upload_while_one_site_asks_without_pause_and_leaves_uploads_half_sent(
    pki: Pki, tmp_path: Path
) -> None:
    others = ("plant-a", "plant-b", "plant-c")
    async with coordinator(pki, tmp_path / "hq", limits=LIMITS) as hq, AsyncExitStack() as lines:
        channels = [await lines.enter_async_context(connect(pki, hq.port, "flooder")) for _ in range(3)]
        flooder, stop = Flooder([TransferServiceStub(each) for each in channels]), asyncio.Event()
        async with asyncio.timeout(LONG_S):
            await flooder.open_uploads()
            asking = [asyncio.create_task(flooder.ask(stop, stub)) for stub in flooder._stubs for _ in range(4)]
            sent = await asyncio.gather(*(upload_honestly(hq, tmp_path, site) for site in others))
            stop.set()
            await asyncio.gather(*asking)
        # The others' vectors are there, whole, once each.
        arrived = {site: data for site, _, _, data in hq.desk.arrived_}
        assert arrived == dict(zip(others, sent, strict=True))
        assert len(hq.desk.arrived_) == len(others)
        # The flooder holds as many uploads as it may; what it asked beyond its rate was refused, typed.
        assert len(flooder.half_sent) == LIMITS.site_uploads
        assert set(flooder.refusals) == {ErrorReason.TOO_MANY_CALLS}
        assert len(flooder.refusals) >= OPENINGS - LIMITS.site_uploads
        # And of all its uploads one is kept: a site has one a round.
        held = [path.stat().st_size for path in (tmp_path / "hq" / "staging").rglob("flooder/*")]
        assert len(held) == 1
        assert held[0] <= 2 * PIECE
        # Who refuses has counted each refusal by its reason.
        assert hq.refused.count(ErrorReason.TOO_MANY_CALLS) == len(flooder.refusals)
        for call in flooder.half_sent:
            call.cancel()
