"""A call on the enrolment port, before or without a certificate of this PC's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from grpc import aio

from edge_agent.identity.reach import Reach
from ravan.identity.certificates import describe_authority
from ravan.identity.join import CoordinatorAddress
from ravan.rpc.channel import open_channel
from ravan.rpc.handshake import look_closer
from ravan.rpc.proxy import name_peer
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolling_client

Answer = TypeVar("Answer")


async def ask(
    address: CoordinatorAddress, reach: Reach, ca_pem: bytes, call: Callable[[aio.Channel], Awaitable[Answer]]
) -> Answer:
    """Make calls at whoever proves to be of this authority; raise RavanError."""
    host, port, proxy = address.host, address.enrolment_port, reach.way.to(address.host)
    async with open_channel(host, port, enrolling_client(ca_certificate=ca_pem), proxy) as channel:
        try:
            return await call(channel)
        except aio.AioRpcError as error:
            authority = describe_authority(ca_pem)
            refusal = error_from_rpc(error, address=name_peer(host, port, proxy), authority=authority)
            raise await look_closer(refusal, host, port, ca_pem, proxy) from error
