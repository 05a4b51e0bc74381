"""One channel to the coordinator, opened with one certificate, and the calls that go on over it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

from edge_agent.identity.keystore import Identity
from ravan.identity.join import CoordinatorAddress
from ravan.rpc.channel import open_channel
from ravan.rpc.tls import enrolled_client
from ravan.way_out import Proxy
from ravan.wire.v1 import site_service_pb2_grpc, transfer_service_pb2_grpc


class _Call(Protocol):
    def add_done_callback(self, callback: Any) -> None:
        """Have the callback called once the call has ended."""
        ...


Call = TypeVar("Call", bound=_Call)


class Line:
    """A channel that is closed only when its last call has ended."""

    def __init__(self, identity: Identity, address: CoordinatorAddress, proxy: Proxy | None) -> None:
        """Open the channel; it connects at its first call."""
        credentials = enrolled_client(
            key=identity.tls_key, certificate=identity.certificate, ca_certificate=identity.ca_certificate
        )
        self._channel = open_channel(address.host, address.site_port, credentials, proxy, repeats=False)
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.site: site_service_pb2_grpc.SiteServiceAsyncStub = site_service_pb2_grpc.SiteServiceStub(self._channel)
        self.transfer: transfer_service_pb2_grpc.TransferServiceAsyncStub = (
            transfer_service_pb2_grpc.TransferServiceStub(self._channel)
        )

    def hold(self, call: Call) -> Call:
        """Count a call that was just made, until it ends; gRPC would break it off when the channel is closed."""
        self._calls += 1
        self._quiet.clear()
        call.add_done_callback(self._release)
        return call

    async def retire(self) -> None:
        """Hang up once no call is going on any more, or at once when cancelled."""
        try:
            await self._quiet.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    def _release(self, _: object) -> None:
        self._calls -= 1
        if not self._calls:
            self._quiet.set()
