"""Every method of every service with the wrong certificate: walked from the descriptors, so none is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode, aio
from identity_ports import HOST, call_raw, client, site_port, wire_services

from coordinator.enrolment.pki import Pki, create_pki
from ravan.errors import ErrorReason
from ravan.identity.certificates import Role
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, bind_port, build_server
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import mutual_tls

NOW = time.time()
METHODS = [method for service in wire_services() for method in service.methods]


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return create_pki(tmp_path / "pki", ["hq.example"], now=NOW)


def allowed_role(method: MethodDescriptor) -> Role | None:
    """Who may call it, written down here once more: by the service's name."""
    return {
        "SiteService": Role.AGENT,
        "TransferService": Role.AGENT,
        "OperatorService": Role.OPERATOR,
        "PeerService": Role.COORDINATOR,
    }.get(method.containing_service.name)


async def refusal(channel: aio.Channel, method: MethodDescriptor) -> ErrorReason:
    with pytest.raises(aio.AioRpcError) as caught:
        await call_raw(channel, method)
    assert caught.value.code() is StatusCode.PERMISSION_DENIED, method.full_name
    return error_from_rpc(caught.value, address="hq:1", authority="CA").reason


def test_every_service_is_opened_on_exactly_one_port() -> None:
    names = [service.full_name for service in wire_services()]
    assert sorted([*ENROLMENT_PORT, *SITE_PORT]) == sorted(names)
    assert len(METHODS) >= 20


@pytest.mark.parametrize("role", Role)
async def test_no_method_answers_the_wrong_role(pki: Pki, role: Role) -> None:
    reached: list[str] = []
    wrong = [method for method in METHODS if allowed_role(method) is not role]
    async with site_port(pki, reached) as port, client(pki, role, "plant-7", port, now=NOW) as channel:
        for method in wrong:
            assert await refusal(channel, method) is ErrorReason.PERMISSION_DENIED, method.full_name
    assert reached == []
    assert wrong


@pytest.mark.parametrize("role", Role)
async def test_every_method_answers_the_right_role(pki: Pki, role: Role) -> None:
    reached: list[str] = []
    right = [method for method in METHODS if allowed_role(method) is role]
    async with site_port(pki, reached) as port, client(pki, role, "plant-7", port, now=NOW) as channel:
        for method in right:
            await call_raw(channel, method)
    assert reached == [method.full_name for method in right]
    assert right


async def test_a_revoked_certificate_reaches_nothing(pki: Pki) -> None:
    reached: list[str] = []
    async with (
        site_port(pki, reached, is_revoked=lambda caller: caller.name == "plant-7") as port,
        client(pki, Role.AGENT, "plant-7", port, now=NOW) as revoked,
        client(pki, Role.AGENT, "plant-8", port, now=NOW) as good,
    ):
        for method in METHODS:
            if allowed_role(method) is Role.AGENT:
                assert await refusal(revoked, method) is ErrorReason.IDENTITY_REVOKED
        assert reached == []
        await call_raw(good, next(method for method in METHODS if method.name == "Heartbeat"))
    assert reached == ["ravan.wire.v1.SiteService.Heartbeat"]


async def test_revocation_breaks_off_transfers_that_are_going_on(pki: Pki) -> None:
    revoked, arrived = asyncio.Event(), asyncio.Event()
    received: list[bytes] = []

    async def download(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await revoked.wait()
        yield b"2"

    async def upload(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for part in requests:
            received.append(part)
            arrived.set()
        return b"whole"

    async def parts() -> AsyncIterator[bytes]:
        yield b"1"
        await revoked.wait()
        yield b"2"

    server = build_server(GuardPolicy(access=SITE_PORT, is_revoked=lambda _: revoked.is_set()))
    name = "ravan.wire.v1.TransferService"
    handlers: dict[str, Any] = {
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    credentials = mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
    port = bind_port(server, Binding(host=HOST, port=0, config_key="x"), credentials)
    await server.start()
    try:
        async with client(pki, Role.AGENT, "plant-7", port, now=NOW) as channel:
            stream: Any = channel.unary_stream(f"/{name}/Download")
            downloading = stream(b"")
            assert await downloading.read() == b"1"
            send: Any = channel.stream_unary(f"/{name}/Upload")
            uploading = send(parts(), timeout=60)
            await arrived.wait()
            revoked.set()
            for ended in (downloading.read(), uploading):
                with pytest.raises(aio.AioRpcError) as caught:
                    await ended
                error = error_from_rpc(caught.value, address="hq:1", authority="CA")
                assert error.reason is ErrorReason.IDENTITY_REVOKED
    finally:
        await server.stop(None)
    assert received == [b"1"]
