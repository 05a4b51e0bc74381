"""Two coordinators on one database in the test's own event loop: one leads, the other passes on and takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from postgres_server import PostgresServer, postgres
from running_coordinator import agent_channel, configure
from test_operator_calls import CALL_S, FIRST, MACHINE

from coordinator.config import DataFolder
from coordinator.daemon.app import Daemon, Stores
from coordinator.enrolment.pki import Pki, create_pki, issue_peer, load_operator
from coordinator.enrolment.rollover import introduce, retire, switch
from coordinator.leases.lease import ROUNDS
from coordinator.metrics.catalog import Catalog
from coordinator.operator_client import Endpoint, OperatorClient
from coordinator.storage import open_blobs
from coordinator.store.sql.database import PostgresAddress
from coordinator.store.sql.store import SqlStore, open_store
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from ravan.clock import SystemClock
from ravan.codec import enums
from ravan.errors import ErrorReason, IdentityError, RavanError, ResourceError, StateError
from ravan.identity.certificates import Caller, Role, load_certificate, serial_text
from ravan.identity.join import decode_invitation
from ravan.manifest.phases import SiteState
from ravan.rpc.channel import open_channel
from ravan.rpc.status import DETAIL_KEY, error_from_rpc
from ravan.rpc.tls import enrolled_client
from ravan.wire.v1 import peer_service_pb2
from ravan.wire.v1 import site_service_pb2 as wire
from ravan.wire.v1.peer_service_pb2_grpc import PeerServiceStub

__all__ = ["postgres"]

HEARTBEAT = "/ravan.wire.v1.SiteService/Heartbeat"


@dataclass
class Coordinator:
    daemon: Daemon
    store: SqlStore
    catalog: Catalog
    folder: DataFolder
    stopped: bool = False

    @property
    def site_port(self) -> int:
        return self.daemon._ports.site_port

    def operator(self) -> OperatorClient:
        identity = load_operator(self.folder.pki)
        return OperatorClient(Endpoint(host="127.0.0.1", port=self.site_port, identity=identity))

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.daemon.stop()
            await self.store.close()

    async def vanish(self) -> None:
        """Leave without a word to anybody, as a killed process does."""
        self.stopped = True
        keeper = self.daemon._succession._keeper
        assert keeper is not None
        for task in (keeper._task, self.daemon._succession._task):
            assert task is not None
            task.cancel()
        await asyncio.gather(self.daemon._enrolment.stop(None), self.daemon._sites.stop(None))
        await self.daemon._term.conductor.stop()  # type: ignore[union-attr] # it leads
        await asyncio.to_thread(self.daemon._http.stop)
        await self.store.close()


@dataclass
class Pair:
    one: Coordinator
    two: Coordinator
    pki: Pki
    folder: Path

    async def enrol(self, site: str) -> Identity:
        """Enrol through the second, whose token has its address."""
        async with self.two.operator() as operator:
            token = await operator.create_token(site)
        return await enrol(token.join_string, self.folder / f"agent-{site}")


async def start_one(data: DataFolder, address: PostgresAddress, **names: object) -> Coordinator:
    """`names` are keys of `[server]`."""
    config, catalog = configure(data.root), Catalog()
    database = config.database.model_copy(update={"url": address.url})
    config = config.model_copy(update={"database": database, "server": config.server.model_copy(update=names)})
    store = await asyncio.to_thread(open_store, address, catalog.note_transaction)
    timeline = await store.transact("read", lambda transaction: transaction.current_timeline())
    daemon = Daemon(config, Stores(records=store, blobs=open_blobs(config), timeline=timeline), catalog)
    await daemon.start()
    return Coordinator(daemon, store, catalog, data)


@pytest.fixture
async def pair(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Pair]:
    data, address = DataFolder(tmp_path / "data"), postgres.new_database()
    pki = create_pki(data.pki, ["localhost"], now=SystemClock().now())
    one, two = await start_one(data, address), await start_one(data, address)
    yield Pair(one, two, pki, tmp_path)
    for each in (two, one):
        await each.stop()


async def end_lease(store: SqlStore) -> None:
    def work(transaction: Any) -> None:
        known = transaction.get_lease(ROUNDS)
        transaction.put_lease(replace(known, until=transaction.now() - 1))

    await store.transact("age", work)


async def until_leads(each: Coordinator) -> None:
    async with asyncio.timeout(30):
        while each.daemon._term is None:  # noqa: ASYNC110 - a daemon rings no bell
            await asyncio.sleep(0.02)


async def state_of(each: Coordinator, site: str) -> SiteState:
    async with each.operator() as operator:
        [view] = await operator.list_sites(site)
    return enums.SITE_STATE.from_wire(view.state)


@asynccontextmanager
async def peer_stub(pair: Pair, target: Coordinator) -> AsyncIterator[Any]:
    key, certificate = issue_peer(pair.pki, now=SystemClock().now())
    credentials = enrolled_client(key=key, certificate=certificate, ca_certificate=pair.pki.ca_pem)
    channel = open_channel("localhost", target.site_port, credentials)
    try:
        yield PeerServiceStub(channel)
    finally:
        await channel.close()


def reason_of(error: aio.AioRpcError) -> ErrorReason:
    return error_from_rpc(error, address="hq", authority="ca").reason


async def test_peers_have_a_name_of_their_own_where_agents_use_another(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    data, address = DataFolder(tmp_path / "data"), postgres.new_database()
    create_pki(data.pki, ["localhost"], now=SystemClock().now())
    names = {"hosts": ("hq.invalid", "localhost"), "peer_host": "localhost"}
    one, two = [await start_one(data, address, **names) for _ in range(2)]
    try:
        async with two.operator() as operator:
            # The leader answers, whom nobody reaches as hq.invalid, and to agents it goes by that name.
            token = await operator.create_token("plant-1")
        assert decode_invitation(token.join_string).address.host == "hq.invalid"
        lease = await two.store.transact("read", lambda transaction: transaction.get_lease(ROUNDS))
        assert lease is not None
        assert lease.address == f"localhost:{one.site_port}"
    finally:
        await two.stop()
        await one.stop()


async def test_one_leads_and_the_other_takes_the_same_calls(pair: Pair) -> None:
    assert pair.one.daemon._term is not None
    assert pair.two.daemon._term is None
    assert [each.catalog.lease_held._value.get() for each in (pair.one, pair.two)] == [1, 0]
    identity = await pair.enrol("plant-1")
    assert identity.address.site_port == pair.one.site_port
    behind = replace(identity, address=replace(identity.address, site_port=pair.two.site_port))
    async with agent_channel(behind) as site:
        stream = site.Watch(wire.WatchRequest(process_id=FIRST))
        assert (await stream.read()).HasField("greeting")
        await site.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
        await site.ReportHardware(wire.ReportHardwareRequest(profile=MACHINE), timeout=CALL_S)
        for each in (pair.one, pair.two):
            assert await state_of(each, "plant-1") is SiteState.ONLINE
        # A second process of the site, at the other coordinator, is noticed.
        async with agent_channel(identity) as twin:
            other = twin.Watch(wire.WatchRequest(process_id=b"b" * 16))
            with pytest.raises(aio.AioRpcError) as caught:
                await other.read()
            assert reason_of(caught.value) is ErrorReason.IDENTITY_IN_USE
        # What the leader refuses comes back with its sentence.
        async with pair.two.operator() as operator:
            with pytest.raises(StateError, match="There is no job 'absent'"):
                await operator.pause_job("absent")
            await operator.revoke_site("plant-1")
        with pytest.raises(aio.AioRpcError) as caught:
            await stream.read()
        assert reason_of(caught.value) is ErrorReason.IDENTITY_REVOKED
        with pytest.raises(aio.AioRpcError) as caught:
            await site.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
        assert reason_of(caught.value) is ErrorReason.IDENTITY_REVOKED


async def test_a_connection_that_outlived_its_certificate_is_refused_at_the_other_process_too(pair: Pair) -> None:
    identity = await pair.enrol("plant-1")
    behind = replace(identity, address=replace(identity.address, site_port=pair.two.site_port))
    async with agent_channel(behind) as site:
        await site.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
        term = pair.one.daemon._term
        assert term is not None
        term.registry._good_until[serial_text(load_certificate(identity.certificate))] = 0.0
        with pytest.raises(aio.AioRpcError) as caught:
            await site.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
        assert reason_of(caught.value) is ErrorReason.IDENTITY_EXPIRED


async def test_calls_are_passed_on_through_every_step_to_another_authority(pair: Pair) -> None:
    link, folder = pair.two.daemon._link, pair.two.folder.pki

    async def until_turned(step: Callable[[], object]) -> None:
        turned = link.turned
        step()
        await asyncio.wait_for(turned.wait(), CALL_S)

    async def ask_both() -> None:
        for each in (pair.one, pair.two):
            async with each.operator() as operator:
                await operator.list_sites()

    await until_turned(lambda: introduce(folder, now=SystemClock().now()))
    await ask_both()
    await until_turned(lambda: switch(folder, ["localhost"], now=SystemClock().now()))
    await ask_both()
    retire(folder)
    await ask_both()


async def test_who_follows_knows_both_certificates_of_a_site_and_their_ends(pair: Pair) -> None:
    identity = await pair.enrol("plant-1")
    now = SystemClock().now()
    newest, older = (Caller(role=Role.AGENT, name="plant-1", serial=serial) for serial in ("aa", "bb"))
    following = pair.two.daemon._following

    async def store(**changes: Any) -> None:
        def work(transaction: Any) -> None:
            transaction.put_site(replace(transaction.get_site(identity.site), **changes))

        await pair.two.store.transact("change", work)
        following._looked_at = float("-inf")
        await following.look()

    ends: dict[str, Any] = {"certificate_expires_at": now + 600, "previous_expires_at": now - 1}
    await store(certificate_serial="aa", previous_serial="bb", **ends)
    assert [following.is_expired(each) for each in (newest, older)] == [False, True]
    assert [following.is_revoked(each) for each in (newest, older)] == [False, False]
    await store(revoked_at=now)
    assert [following.is_revoked(each) for each in (newest, older)] == [True, True]


@pytest.mark.parametrize("orderly", [True, False])
async def test_the_follower_leads_when_the_leader_is_gone_and_its_sites_stay_attached(
    pair: Pair, orderly: bool
) -> None:
    identity = await pair.enrol("plant-1")
    behind = replace(identity, address=replace(identity.address, site_port=pair.two.site_port))
    async with agent_channel(behind) as site:
        stream = site.Watch(wire.WatchRequest(process_id=FIRST))
        assert (await stream.read()).HasField("greeting")
        if orderly:
            await pair.one.stop()
        else:
            await pair.one.vanish()
            async with pair.two.operator() as operator:
                # Nobody answers for the lease, and what is stored is still told.
                assert await operator.list_jobs() == []
                with pytest.raises(ResourceError):
                    await operator.create_token("plant-2")
            assert await state_of(pair.two, "plant-1") is SiteState.OFFLINE
            with pytest.raises(aio.AioRpcError) as caught:
                await site.Heartbeat(wire.HeartbeatRequest(process_id=FIRST), timeout=CALL_S)
            # Without a word of the coordinator's: an agent takes it for a broken line, and insists.
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert DETAIL_KEY not in dict(caught.value.trailing_metadata() or ())
            await end_lease(pair.two.store)
        await until_leads(pair.two)
        async with asyncio.timeout(30):
            while await state_of(pair.two, "plant-1") is not SiteState.ONLINE:  # noqa: ASYNC110 - asked from outside
                await asyncio.sleep(0.05)
        # The same stream, and no second greeting in it.
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0.1)
        if not orderly:
            assert not reading.done()
        reading.cancel()


async def test_a_leader_that_is_succeeded_follows(pair: Pair) -> None:
    await end_lease(pair.two.store)
    await until_leads(pair.two)
    async with asyncio.timeout(30):
        while pair.one.daemon._term is not None:  # noqa: ASYNC110 - a daemon rings no bell
            await asyncio.sleep(0.02)
    assert pair.one.catalog.lease_losses._value.get() == 1
    async with asyncio.timeout(30):
        while True:
            try:
                async with pair.one.operator() as operator:
                    await operator.create_token("plant-3")
                break
            except RavanError:
                await asyncio.sleep(0.2)
    assert await state_of(pair.two, "plant-3") is SiteState.INVITED


async def test_only_a_process_of_the_coordinator_may_relay_and_only_to_the_leader(pair: Pair) -> None:
    request = peer_service_pb2.RelayRequest(method=HEARTBEAT, certificate=b"", payload=b"")
    async with peer_stub(pair, pair.two) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Relay(request, timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    async with peer_stub(pair, pair.one) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            # Nobody has called: a site's call needs a site's certificate.
            await stub.Relay(request, timeout=CALL_S)
        assert isinstance(error_from_rpc(caught.value, address="hq", authority="ca"), IdentityError)
        for method in ("/ravan.wire.v1.SiteService/Forget", "/ravan.wire.v1.PeerService/Relay", ""):
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.Relay(peer_service_pb2.RelayRequest(method=method), timeout=CALL_S)
            assert reason_of(caught.value) is ErrorReason.WRONG_STATE
        identity = await pair.enrol("plant-1")
        relayed = peer_service_pb2.RelayRequest(method=HEARTBEAT, certificate=identity.certificate, payload=b"\xff\xff")
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Relay(relayed, timeout=CALL_S)
        assert reason_of(caught.value) is ErrorReason.MALFORMED
