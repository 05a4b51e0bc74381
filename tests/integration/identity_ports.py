"""Both gRPC ports with real TLS on loopback, with a database in memory, for the identity tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from grpc import aio

from coordinator.api.enrolment import EnrolmentServicer
from coordinator.enrolment.ca import Authority, issue_client
from coordinator.enrolment.pki import Pki, create_pki
from coordinator.enrolment.registry import Registry
from coordinator.store.base import Store
from coordinator.store.records import SiteRecord, TokenRecord
from coordinator.store.sql.store import MEMORY, open_store
from ravan.clock import ManualClock
from ravan.identity.certificates import Caller, Rank, Role
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keys import new_tls_key, private_pem
from ravan.rpc.channel import open_channel
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, Health, bind_port, build_server
from ravan.rpc.tls import enrolled_client, mutual_tls, server_tls
from ravan.wire.v1 import (
    enrolment_service_pb2,
    enrolment_service_pb2_grpc,
    operator_service_pb2,
    peer_service_pb2,
    site_service_pb2,
    transfer_service_pb2,
)

HOST = "127.0.0.1"

WIRE_FILES: tuple[FileDescriptor, ...] = (
    enrolment_service_pb2.DESCRIPTOR,
    operator_service_pb2.DESCRIPTOR,
    peer_service_pb2.DESCRIPTOR,
    site_service_pb2.DESCRIPTOR,
    transfer_service_pb2.DESCRIPTOR,
)


def nobody(caller: Caller) -> bool:
    """Revoke no certificate."""
    return False


def wire_services() -> list[ServiceDescriptor]:
    """Every service of the wire format."""
    return [service for file in WIRE_FILES for service in file.services_by_name.values()]


@dataclass
class Headquarters:
    """A coordinator's identity side."""

    pki: Pki
    port: int
    store: Store
    clock: ManualClock
    registry: Registry

    async def sites(self) -> dict[str, SiteRecord]:
        """All sites by name."""
        return {site.name: site for site in await self.store.transact("sites", lambda records: records.list_sites())}

    async def token(self, token_id: str) -> TokenRecord:
        """One token."""
        token = await self.store.transact("token", lambda records: records.get_token(token_id))
        assert token is not None
        return token


@asynccontextmanager
async def enrolment_port(folder: Path, *, now: float) -> AsyncIterator[Headquarters]:
    """Serve enrolment on a port that the system chose; the registry's join strings name it."""
    pki = create_pki(folder, ["hq.example"], now=now)
    server = build_server(GuardPolicy(access=ENROLMENT_PORT, is_revoked=nobody))
    credentials = server_tls(key=pki.server_key, certificate=pki.server_certificate)
    port = bind_port(server, Binding(host=HOST, port=0, config_key="enrolment_port"), credentials)
    store, clock = open_store(MEMORY), ManualClock(now)
    address = CoordinatorAddress(host=HOST, enrolment_port=port, site_port=8443)
    registry = Registry(store, pki, address, clock)
    enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(EnrolmentServicer(registry, pki), server)
    async with _running(server, ["ravan.wire.v1.EnrolmentService"]):
        yield Headquarters(pki, port, store, clock, registry)
    await store.close()


@asynccontextmanager
async def site_port(
    pki: Pki, reached: list[str], *, is_revoked: Callable[[Caller], bool] = nobody
) -> AsyncIterator[int]:
    """Serve every method of every service behind mutual TLS; a handler that is reached notes its method."""
    server = build_server(GuardPolicy(access=SITE_PORT, is_revoked=is_revoked))
    for service in wire_services():
        handlers = {method.name: _handler_of(method, reached) for method in service.methods}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])
    credentials = mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
    port = bind_port(server, Binding(host=HOST, port=0, config_key="site_port"), credentials)
    async with _running(server, list(SITE_PORT)):
        yield port


@asynccontextmanager
async def client(
    pki: Pki, role: Role, name: str, port: int, *, now: float, rank: Rank | None = None
) -> AsyncIterator[aio.Channel]:
    """Connect with a fresh certificate of the coordinator's authority."""
    async with client_of(pki.authority, role, name, trusted=pki.ca_pem, port=port, now=now, rank=rank) as channel:
        yield channel


@asynccontextmanager
async def client_of(
    authority: Authority, role: Role, name: str, *, trusted: bytes, port: int, now: float, rank: Rank | None = None
) -> AsyncIterator[aio.Channel]:
    """Connect with a fresh certificate of any authority."""
    key = new_tls_key()
    certificate = issue_client(authority, key.public_key(), role=role, name=name, now=now, rank=rank)
    credentials = enrolled_client(
        key=private_pem(key), certificate=certificate.public_bytes(Encoding.PEM), ca_certificate=trusted
    )
    async with open_channel(HOST, port, credentials) as channel:
        yield channel


async def call_raw(channel: aio.Channel, method: MethodDescriptor) -> None:
    """Call a method with an empty message of whatever streaming kind it has."""
    path = f"/{method.containing_service.full_name}/{method.name}"

    async def empty() -> AsyncIterator[bytes]:
        yield b""

    request: Any = empty() if method.client_streaming else b""
    if method.server_streaming:
        opened: Any = channel.stream_stream(path) if method.client_streaming else channel.unary_stream(path)
        async for _ in opened(request, timeout=20):
            pass
    else:
        call: Any = channel.stream_unary(path) if method.client_streaming else channel.unary_unary(path)
        await call(request, timeout=20)


def _handler_of(method: MethodDescriptor, reached: list[str]) -> Any:
    async def answer(request: Any, context: Any) -> bytes:
        reached.append(method.full_name)
        return b""

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        reached.append(method.full_name)
        yield b""

    if method.server_streaming:
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_stream_rpc_method_handler(stream)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(answer)
    return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def _running(server: aio.Server, services: list[str]) -> AsyncIterator[None]:
    health = Health(services)
    health.add_to(server)
    await server.start()
    await health.announce_serving()
    try:
        yield
    finally:
        await health.announce_leaving()
        await server.stop(None)
