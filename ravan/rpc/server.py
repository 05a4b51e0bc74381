"""Servers of the coordinator's gRPC ports: settings, binding with a sentence, health."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from ravan.errors import ErrorReason, ResourceError
from ravan.rpc.addresses import target_of
from ravan.rpc.guard import LARGEST_MESSAGE_BYTES, Guard, GuardPolicy
from ravan.rpc.keepalive import SERVER_OPTIONS

BEING_REFUSED: Final = 2000
"""Calls beyond a port's limit that may wait for their refusal; further ones gRPC turns away without a word."""

LINE_CALLS: Final = 100
"""Calls in progress of one connection; further ones wait at the client, whatever they are."""

AHEAD_BYTES: Final = 128 << 10
"""What a stream may send before it is read: 2.5 MB a second over a line with 50 ms there and back."""

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # without reuse of ports a second coordinator gets an error instead of half the connections
    ("grpc.so_reuseport", 0),
    # left to itself gRPC grants each of a thousand streams megabytes, as soon as its line is fast
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", AHEAD_BYTES),
    ("grpc.max_concurrent_streams", LINE_CALLS),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where a server listens."""

    host: str
    port: int
    """0 lets the system choose."""
    config_key: str
    """Key of the configuration that sets the port, for the sentence when it is taken."""


class Health:
    """The health service of one port."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer = health_aio.HealthServicer()
        self._services = services

    def add_to(self, server: aio.Server) -> None:
        """Serve health on this port; must precede its start."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def announce_serving(self) -> None:
        """Say that all services of the port answer."""
        for service in self._services:
            await self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def announce_leaving(self) -> None:
        """Say that nothing is served any more, for ever; call it before the server stops."""
        await self._servicer.enter_graceful_shutdown()


def build_server(policy: GuardPolicy) -> aio.Server:
    """Return a server whose every handler stands behind a guard of this policy."""
    options, most = (*SERVER_OPTIONS, *_OPTIONS), policy.limits.calls + BEING_REFUSED
    return aio.server(interceptors=[Guard(policy)], options=options, maximum_concurrent_rpcs=most)


def bind_port(server: aio.Server, binding: Binding, credentials: grpc.ServerCredentials) -> int:
    """Listen on the port and return its number.

    Raises ResourceError (PORT_IN_USE) naming port and configuration key.
    """
    _require_free(binding)
    try:
        return server.add_secure_port(target_of(binding.host, binding.port), credentials)
    except RuntimeError as error:
        raise _not_bound(binding, "it cannot be bound") from error


def _require_free(binding: Binding) -> None:
    """Bind once by hand: gRPC reports failures without a cause, and logs them to standard error."""
    if binding.port == 0:
        return
    try:
        infos = socket.getaddrinfo(binding.host, binding.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in infos[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise _not_bound(binding, (error.strerror or str(error)).lower()) from error


def _not_bound(binding: Binding, cause: str) -> ResourceError:
    return ResourceError(
        f"The coordinator cannot listen on {target_of(binding.host, binding.port)}: {cause}.",
        reason=ErrorReason.PORT_IN_USE,
        next_step=f"End the program that uses port {binding.port}, or set `{binding.config_key}` to another port.",
    )
