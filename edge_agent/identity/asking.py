"""A call on the enrolment port, before or without a certificate of this PC's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from grpc import aio

from edge_agent.identity.reach import Reach, is_elsewhere, nowhere
from ravan.errors import RavanError
from ravan.identity.certificates import describe_authority
from ravan.identity.join import CoordinatorAddress
from ravan.rpc.channel import open_channel
from ravan.rpc.handshake import look_closer
from ravan.rpc.proxy import name_peer
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolling_client
from ravan.way_out import Proxy

Answer = TypeVar("Answer")


Call = Callable[[aio.Channel], Awaitable[Answer]]


async def ask(own: CoordinatorAddress, reach: Reach, ca_pem: bytes, call: Call[Answer]) -> Answer:
    """Make calls at the first address where somebody proves to be of this authority; raise RavanError."""
    failures: list[RavanError] = []
    for place in reach.places(own):
        try:
            return await _ask_at(place, reach.way.to(place.host), ca_pem, call)
        except RavanError as error:
            if not is_elsewhere(error):
                raise
            failures.append(error)
    raise nowhere(failures)


async def _ask_at(place: CoordinatorAddress, proxy: Proxy | None, ca_pem: bytes, call: Call[Answer]) -> Answer:
    host, port = place.host, place.enrolment_port
    async with open_channel(host, port, enrolling_client(ca_certificate=ca_pem), proxy) as channel:
        try:
            return await call(channel)
        except aio.AioRpcError as error:
            authority = describe_authority(ca_pem)
            refusal = error_from_rpc(error, address=name_peer(host, port, proxy), authority=authority)
            raise await look_closer(refusal, host, port, ca_pem, proxy) from error
