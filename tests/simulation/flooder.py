"""A site whose program calls without pause and holds streams open that it never uses, over real mutual TLS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from grpc import aio

from coordinator.operator_client import OperatorClient
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from ravan.codec.profiles import heartbeat_to_wire
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity
from ravan.rpc.channel import open_channel
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client
from ravan.wire.v1 import transfer_service_pb2
from ravan.wire.v1.site_service_pb2_grpc import SiteServiceStub
from ravan.wire.v1.transfer_service_pb2_grpc import TransferServiceStub

LINES: Final = 4
CALLERS_A_LINE: Final = 8
LONG_S: Final = 3600.0


class Flooder:
    """Keep `LINES` connections busy until closed; `answers` counts what came of its calls."""

    def __init__(self, lines: list[aio.Channel]) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()
        """By call and by reason of the refusal, or `OK`."""
        self.held = 0
        """Streams that are open and of no use."""
        self._lines = lines

    def start(self) -> list[asyncio.Task[None]]:
        """Begin."""
        works = []
        for line in self._lines:
            site: Any = SiteServiceStub(line)
            transfer: Any = TransferServiceStub(line)
            works += [self._beat(site) for _ in range(CALLERS_A_LINE)]
            works += [self._hold_upload(transfer) for _ in range(CALLERS_A_LINE)]
            works += [self._download(transfer)]
        return [asyncio.create_task(work) for work in works]

    async def _beat(self, stub: Any) -> None:
        beat = heartbeat_to_wire(Heartbeat(process_id=bytes(16), activity=AgentActivity.IDLE))
        while True:
            await self._note("Heartbeat", stub.Heartbeat(beat, timeout=LONG_S))

    async def _hold_upload(self, stub: Any) -> None:
        """Open an upload and send nothing."""
        while True:
            call = stub.Upload(timeout=LONG_S)
            self.held += 1
            await self._note("Upload", call)
            self.held -= 1

    async def _download(self, stub: Any) -> None:
        while True:
            request = transfer_service_pb2.DownloadRequest(sha256=bytes(32))
            await self._note("Download", stub.Download(request).read())

    async def _note(self, name: str, call: Any) -> None:
        try:
            await call
        except aio.AioRpcError as error:
            reason = error_from_rpc(error, address="coordinator", authority="the test's CA").reason
            self.answers[name, reason.value] += 1
        else:
            self.answers[name, "OK"] += 1


@asynccontextmanager
async def flooding(client: OperatorClient, folder: Path, site: str = "flooder") -> AsyncIterator[Flooder]:
    """Enrol a site and flood for as long as the block lasts."""
    identity = await enrol((await client.create_token(site)).join_string, folder)
    async with AsyncExitStack() as lines:
        channels = [_connect(identity) for _ in range(LINES)]
        for channel in channels:
            lines.push_async_callback(partial(channel.close))
        flooder = Flooder(channels)
        tasks = flooder.start()
        try:
            yield flooder
        finally:
            failed = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in failed:
                task.result()


def _connect(identity: Identity) -> aio.Channel:
    credentials = enrolled_client(
        key=identity.tls_key, certificate=identity.certificate, ca_certificate=identity.ca_certificate
    )
    return open_channel(identity.address.host, identity.address.site_port, credentials)
