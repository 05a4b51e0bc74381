"""Who gets through the handshake, over real TLS on loopback."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from identity_ports import HOST, client, client_of, enrolment_port, nobody, site_port

from coordinator.enrolment.ca import create_authority, issue_client
from coordinator.enrolment.pki import Pki, create_pki, load_operator
from ravan.errors import ErrorReason, IdentityError, RavanError, ResourceError
from ravan.identity.certificates import Role, describe_authority
from ravan.identity.keys import new_tls_key, private_pem
from ravan.rpc.channel import open_channel
from ravan.rpc.guard import GuardPolicy
from ravan.rpc.server import Binding, bind_port, build_server
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client, enrolling_client, server_tls

NOW = time.time()
PING = health_pb2.HealthCheckRequest(service="ravan.wire.v1.SiteService")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return create_pki(tmp_path / "pki", ["hq.example"], now=NOW)


async def ping(channel: aio.Channel, request: health_pb2.HealthCheckRequest = PING) -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)
    return int(answer.status)


async def failure(channel: aio.Channel, port: int, trusted: bytes) -> RavanError:
    with pytest.raises(aio.AioRpcError) as caught:
        await ping(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return error_from_rpc(caught.value, address=f"{HOST}:{port}", authority=describe_authority(trusted))


async def test_enrolled_clients_get_through_and_health_answers_them(pki: Pki) -> None:
    async with site_port(pki, []) as port:
        for role in Role:
            async with client(pki, role, "plant-7", port, now=NOW) as channel:
                assert await ping(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_the_admin_certificate_of_init_gets_through(pki: Pki, tmp_path: Path) -> None:
    admin = load_operator(tmp_path / "pki")
    credentials = enrolled_client(key=admin.key, certificate=admin.certificate, ca_certificate=admin.ca_pem)
    async with site_port(pki, []) as port, open_channel("localhost", port, credentials) as channel:
        assert await ping(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_the_enrolment_port_asks_for_no_certificate_and_has_health(tmp_path: Path) -> None:
    async with enrolment_port(tmp_path / "hq", now=NOW) as hq:
        credentials = enrolling_client(ca_certificate=hq.pki.ca_pem)
        async with open_channel(HOST, hq.port, credentials) as channel:
            request = health_pb2.HealthCheckRequest(service="ravan.wire.v1.EnrolmentService")
            assert await ping(channel, request) == health_pb2.HealthCheckResponse.SERVING


async def test_a_client_without_a_certificate_is_refused(pki: Pki) -> None:
    async with (
        site_port(pki, []) as port,
        open_channel(HOST, port, enrolling_client(ca_certificate=pki.ca_pem)) as channel,
    ):
        await failure(channel, port, pki.ca_pem)


async def test_a_certificate_of_another_authority_is_refused(pki: Pki) -> None:
    foreign = create_authority(NOW)
    async with (
        site_port(pki, []) as port,
        client_of(foreign, Role.AGENT, "plant-7", trusted=pki.ca_pem, port=port, now=NOW) as channel,
    ):
        await failure(channel, port, pki.ca_pem)


async def test_an_agent_trusts_no_coordinator_of_another_authority(pki: Pki) -> None:
    foreign = create_authority(NOW)
    trusted = foreign.certificate.public_bytes(Encoding.PEM)
    async with (
        site_port(pki, []) as port,
        client_of(foreign, Role.AGENT, "plant-7", trusted=trusted, port=port, now=NOW) as channel,
    ):
        error = await failure(channel, port, trusted)
    assert isinstance(error, IdentityError)
    assert error.reason is ErrorReason.IDENTITY_MISMATCH
    assert describe_authority(trusted) in str(error)


async def test_the_servers_certificate_is_no_client_certificate(pki: Pki) -> None:
    credentials = enrolled_client(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
    async with site_port(pki, []) as port, open_channel(HOST, port, credentials) as channel:
        await failure(channel, port, pki.ca_pem)


async def test_an_expired_certificate_is_refused(pki: Pki) -> None:
    async with site_port(pki, []) as port, client(pki, Role.AGENT, "plant-7", port, now=NOW - 366 * 86_400) as channel:
        error = await failure(channel, port, pki.ca_pem)
    assert "expired" in error.next_step


@asynccontextmanager
async def impostor(pki: Pki) -> AsyncIterator[int]:
    """Serve with an agent's certificate, as a stolen PC could."""
    key = new_tls_key()
    certificate = issue_client(pki.authority, key.public_key(), role=Role.AGENT, name="localhost", now=NOW)
    server = build_server(GuardPolicy(access={}, is_revoked=nobody))
    credentials = server_tls(key=private_pem(key), certificate=certificate.public_bytes(Encoding.PEM))
    port = bind_port(server, Binding(host=HOST, port=0, config_key="x"), credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_an_agents_certificate_cannot_pose_as_the_coordinator(pki: Pki) -> None:
    async with impostor(pki) as port, client(pki, Role.AGENT, "plant-7", port, now=NOW) as channel:
        error = await failure(channel, port, pki.ca_pem)
    assert error.reason is ErrorReason.IDENTITY_MISMATCH


async def test_its_use_alone_stops_the_impostor(pki: Pki) -> None:
    # the name would pass: grpc is told to look for one that the certificate has as its subject
    async with impostor(pki) as port:
        credentials = enrolling_client(ca_certificate=pki.ca_pem)
        options = [("grpc.ssl_target_name_override", "localhost")]
        async with aio.secure_channel(f"{HOST}:{port}", credentials, options=options) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await ping(channel)
    assert "CERTIFICATE_VERIFY_FAILED" in f"{caught.value.details()} {caught.value.debug_error_string()}"


async def test_nobody_listening_is_told_from_a_wrong_certificate(pki: Pki) -> None:
    async with site_port(pki, []) as port:
        pass
    async with client(pki, Role.AGENT, "plant-7", port, now=NOW) as channel:
        error = await failure(channel, port, pki.ca_pem)
    assert isinstance(error, ResourceError)
    assert error.reason is ErrorReason.UNREACHABLE
    assert f"{HOST}:{port}" in str(error)


async def test_a_port_in_use_is_named_with_its_key(pki: Pki) -> None:
    credentials = server_tls(key=pki.server_key, certificate=pki.server_certificate)
    async with site_port(pki, []) as port:
        second = build_server(GuardPolicy(access={}, is_revoked=nobody))
        with pytest.raises(ResourceError) as caught:
            bind_port(second, Binding(host=HOST, port=port, config_key="ports.site"), credentials)
        await second.stop(None)
    assert caught.value.reason is ErrorReason.PORT_IN_USE
    assert f"{HOST}:{port}: address already in use" in str(caught.value)
    assert "`ports.site`" in caught.value.next_step


async def test_a_host_that_is_not_here_is_named(pki: Pki) -> None:
    server = build_server(GuardPolicy(access={}, is_revoked=nobody))
    credentials = server_tls(key=pki.server_key, certificate=pki.server_certificate)
    with pytest.raises(ResourceError, match=r"192\.0\.2\.1:8443: cannot assign requested address"):
        bind_port(server, Binding(host="192.0.2.1", port=8443, config_key="ports.site"), credentials)
    await server.stop(None)
