"""A coordinator with several addresses, of which some lead to nobody or to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_line import FaultyLine
from membership_ports import PROCESS, Membership, membership

from coordinator.api.membership import RETURNS_PER_S
from coordinator.enrolment.pki import Pki, create_pki
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from edge_agent.identity.reach import OtherAddress, Reach
from edge_agent.identity.recovery import renew_by_identity
from edge_agent.session.connection import Coordinator
from edge_agent.session.reconnect import FIRST_S
from ravan.clock import SystemClock
from ravan.errors import ErrorReason, RavanError
from ravan.identity.join import CoordinatorAddress, decode_invitation, encode_invitation
from ravan.manifest.instructions import Greeting
from simulation.desks import LightProbe

HOST = "127.0.0.1"
CLOSED = CoordinatorAddress(host=HOST, enrolment_port=1, site_port=1)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return create_pki(tmp_path / "pki", ["hq.example"], now=SystemClock().now())


@pytest.fixture
async def hq(pki: Pki) -> AsyncIterator[Membership]:
    async with membership(pki, now=SystemClock().now()) as ports:
        yield ports


async def invitation_at(hq: Membership, address: CoordinatorAddress) -> str:
    invitation = decode_invitation((await hq.registry.create_token("plant-7"))[0])
    return encode_invitation(replace(invitation, address=address))


async def address_of(hq: Membership) -> CoordinatorAddress:
    return decode_invitation((await hq.registry.create_token("plant-0"))[0]).address


def also_at(*addresses: CoordinatorAddress) -> Reach:
    return Reach(
        others=tuple(
            OtherAddress(host=each.host, site_port=each.site_port, enrolment_port=each.enrolment_port)
            for each in addresses
        )
    )


@asynccontextmanager
async def called(identity: Identity, reach: Reach, memory: Path | None = None) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(identity, reach, memory)
    try:
        yield coordinator
    finally:
        await coordinator.close()


async def greeted(coordinator: Coordinator) -> bool:
    async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
        return isinstance(await anext(messages), Greeting)


async def test_everything_gets_through_where_the_join_string_s_address_is_dead(hq: Membership, tmp_path: Path) -> None:
    reach, memory = also_at(await address_of(hq)), tmp_path / "coordinator"
    identity = await enrol(await invitation_at(hq, CLOSED), tmp_path / "pc", reach, timeout_s=20)
    assert identity.address == CLOSED
    async with called(identity, reach, memory) as coordinator:
        assert await greeted(coordinator)
    assert memory.read_text().strip() == f"{HOST}:{reach.others[0].site_port}"
    assert await renew_by_identity(tmp_path / "pc", identity, reach)


async def test_the_address_that_worked_is_dialled_first_after_a_restart(hq: Membership, tmp_path: Path) -> None:
    address, memory = await address_of(hq), tmp_path / "coordinator"
    one, two = FaultyLine(1), FaultyLine(address.site_port)  # the first leads nowhere
    async with one.serve() as dead, two.serve() as good:
        first, second = replace(address, site_port=dead), replace(address, site_port=good)
        identity = await enrol(await invitation_at(hq, first), tmp_path / "pc", timeout_s=20)
        async with called(identity, also_at(second), memory) as coordinator:
            assert await greeted(coordinator)
        dialled = one.connections
        assert dialled
        async with called(identity, also_at(second), memory) as coordinator:
            assert await greeted(coordinator)
        assert (one.connections, two.connections) == (dialled, 2)


async def test_a_connection_that_stood_is_made_again_where_it_was(hq: Membership, tmp_path: Path) -> None:
    address = await address_of(hq)
    one, two = FaultyLine(address.site_port), FaultyLine(address.site_port)
    async with one.serve() as here, two.serve() as there:
        first, second = replace(address, site_port=here), replace(address, site_port=there)
        identity = await enrol(await invitation_at(hq, first), tmp_path / "pc", timeout_s=20)
        async with called(identity, also_at(second)) as coordinator:
            async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
                greeting = await anext(messages)
                assert isinstance(greeting, Greeting)
                assert greeting.return_spread_s == 1 / RETURNS_PER_S  # there is one site
                one.reset()
                with pytest.raises(RavanError) as caught:
                    await anext(messages)
            assert caught.value.reason is ErrorReason.UNREACHABLE
            assert await greeted(coordinator)
        assert (one.connections, two.connections) == (2, 0)


async def test_a_call_that_broke_with_the_stream_waits_for_it(hq: Membership, tmp_path: Path) -> None:
    address = await address_of(hq)
    line = FaultyLine(address.site_port)
    async with line.serve() as here:
        identity = await enrol(await invitation_at(hq, replace(address, site_port=here)), tmp_path / "pc", timeout_s=20)
        async with called(identity, Reach()) as coordinator:
            async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
                assert isinstance(await anext(messages), Greeting)
                line.stall()
                report = asyncio.create_task(coordinator.report_hardware(LightProbe().read()))
                await asyncio.sleep(0.1)
                line.reset()
                line.flow()
                with pytest.raises(RavanError):
                    await anext(messages)
            await asyncio.sleep(2 * FIRST_S)  # longer than its own pause
            assert (line.connections, report.done()) == (1, False)
            assert await greeted(coordinator)
            await report
            assert line.connections == 2
    assert (await hq.site()).hardware == LightProbe().read()


async def test_each_address_has_to_prove_itself(hq: Membership, tmp_path: Path) -> None:
    own = await address_of(hq)
    identity = await enrol(await invitation_at(hq, own), tmp_path / "pc", timeout_s=20)
    other = create_pki(tmp_path / "other", ["hq.example"], now=SystemClock().now())
    async with membership(other, now=SystemClock().now()) as stranger:
        there = await address_of(stranger)
        astray = replace(identity, address=there)
        async with called(astray, also_at(own)) as coordinator:
            assert await greeted(coordinator)
        async with called(astray, also_at(CLOSED)) as coordinator:
            with pytest.raises(RavanError) as caught:
                await greeted(coordinator)
        assert set(stranger.fleet.online()) == set()
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH
    assert f"{HOST}:{there.site_port} did not prove to be the coordinator" in str(caught.value)
    assert f"{HOST}:1 cannot be reached" in str(caught.value)


async def test_a_site_leaves_by_whichever_address_answers(hq: Membership, tmp_path: Path) -> None:
    own = await address_of(hq)
    identity = await enrol(await invitation_at(hq, own), tmp_path / "pc", timeout_s=20)
    async with called(replace(identity, address=CLOSED), also_at(own)) as coordinator:
        await coordinator.withdraw()
    assert (await hq.site()).revoked_at is not None
    async with called(replace(identity, address=CLOSED), Reach()) as coordinator:
        with pytest.raises(RavanError, match="cannot be reached"):
            await coordinator.withdraw()
