"""Renewal over real TLS: in time over the old certificate, late by the identity key, and never for anybody else."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from membership_ports import PROCESS, Membership, membership

from coordinator.enrolment.pki import create_pki
from coordinator.enrolment.registry import DAY_S
from coordinator.enrolment.succession import RenewalOutcome
from edge_agent.identity.keystore import Identity, load_identity, make_keys
from edge_agent.identity.recovery import Request, recover
from edge_agent.session.connection import Coordinator
from edge_agent.session.renewals import Renewals
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, IdentityError, RavanError
from ravan.identity.certificates import load_certificate, read_caller, serial_text
from ravan.identity.keys import certificate_request, new_tls_key
from ravan.identity.renewal import Renewal
from ravan.ids import SiteId
from ravan.manifest.instructions import Greeting

NOW = time.time()


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Membership]:
    async with membership(create_pki(tmp_path / "pki", ["hq.example"], now=NOW - 400 * DAY_S), now=NOW) as ports:
        yield ports


def renewals(folder: Path, coordinator: Coordinator, at: float = NOW) -> Renewals:
    return Renewals(folder, coordinator, ManualClock(at))


def serial(identity: Identity) -> str:
    return serial_text(load_certificate(identity.certificate))


async def refusal(attempt: Renewals) -> RavanError:
    with pytest.raises(RavanError) as caught:
        await attempt.renew()
    return caught.value


async def test_an_open_stream_moves_to_the_renewed_certificate(hq: Membership, tmp_path: Path) -> None:
    old = await hq.enrol(tmp_path / "pc")
    coordinator = Coordinator(old)
    async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
        assert isinstance(await anext(messages), Greeting)
        await renewals(tmp_path / "pc", coordinator).renew()
        assert isinstance(await anext(messages), Greeting)
        new = load_identity(tmp_path / "pc")
        assert new.certificate == coordinator.identity.certificate
        site = await hq.site()
        assert (site.certificate_serial, site.previous_serial) == (serial(new), serial(old))
        assert set(hq.fleet.online()) == {"plant-7"}
    await coordinator.close()
    assert new.tls_key != old.tls_key
    assert not hq.registry.is_revoked(read_caller(old.certificate))
    assert hq.renewals == [RenewalOutcome.RENEWED]


async def test_calls_over_the_old_certificate_go_on_until_it_ends(hq: Membership, tmp_path: Path) -> None:
    old = await hq.enrol(tmp_path / "pc")
    coordinator, left_behind = Coordinator(old), Coordinator(old)
    await renewals(tmp_path / "pc", coordinator).renew()
    async with aclosing(left_behind.watch(PROCESS, 0)) as messages:
        assert isinstance(await anext(messages), Greeting)
    hq.clock.time = old.certificate_expires_at
    with pytest.raises(IdentityError) as caught:
        await left_behind.withdraw()
    assert caught.value.reason is ErrorReason.IDENTITY_EXPIRED
    await asyncio.gather(coordinator.close(), left_behind.close())


async def test_a_lost_answer_is_asked_for_again(hq: Membership, tmp_path: Path) -> None:
    """The power goes after the coordinator has issued and before the PC has written."""
    old = await hq.enrol(tmp_path / "pc")
    first, second = Coordinator(old), Coordinator(old)
    attempt = renewals(tmp_path / "pc", first)
    before = {path.name: path.read_bytes() for path in (tmp_path / "pc").iterdir()}
    await attempt.renew()
    issued = serial(load_identity(tmp_path / "pc"))
    key = (tmp_path / "pc" / "tls.key").read_bytes()
    for path in (tmp_path / "pc").iterdir():
        path.write_bytes(before[path.name])
    next_key = tmp_path / "pc" / "next.key"
    next_key.write_bytes(key)
    next_key.chmod(0o600)
    await renewals(tmp_path / "pc", second).renew()
    assert serial(load_identity(tmp_path / "pc")) == issued
    assert hq.renewals == [RenewalOutcome.RENEWED, RenewalOutcome.REPEATED]
    await asyncio.gather(first.close(), second.close())


async def test_a_pc_back_from_holidays_renews_by_its_identity_key(hq: Membership, tmp_path: Path) -> None:
    old = await hq.enrol(tmp_path / "pc", at=NOW - 45 * DAY_S)
    assert old.certificate_expires_at < NOW
    coordinator = Coordinator(old)
    running = asyncio.create_task(renewals(tmp_path / "pc", coordinator).run())
    while coordinator.identity is old:
        await asyncio.wait([running], timeout=0.01)
        assert not running.done()
    async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
        assert isinstance(await anext(messages), Greeting)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await coordinator.close()
    assert hq.renewals == [RenewalOutcome.RECOVERED]
    assert load_identity(tmp_path / "pc").certificate_expires_at > NOW


async def test_a_pc_whose_clock_stands_still_renews_as_well(hq: Membership, tmp_path: Path) -> None:
    """It takes its certificate for good, and the handshake of the other port tells it nothing."""
    old = await hq.enrol(tmp_path / "pc", at=NOW - 45 * DAY_S)
    coordinator = Coordinator(old)
    await renewals(tmp_path / "pc", coordinator, at=NOW - 45 * DAY_S).renew()
    await coordinator.close()
    assert hq.renewals == [RenewalOutcome.RECOVERED]


async def test_beyond_the_window_the_agent_ends_with_the_way_back(hq: Membership, tmp_path: Path) -> None:
    coordinator = Coordinator(await hq.enrol(tmp_path / "pc", at=NOW - 120 * DAY_S))
    with pytest.raises(IdentityError) as caught:
        await renewals(tmp_path / "pc", coordinator).run()
    await coordinator.close()
    assert caught.value.reason is ErrorReason.IDENTITY_EXPIRED
    assert "token create --site plant-7" in caught.value.next_step
    assert hq.renewals == [RenewalOutcome.REFUSED]


@pytest.mark.parametrize("age", [0.0, 45 * DAY_S])
async def test_a_revoked_site_is_not_renewed(hq: Membership, tmp_path: Path, age: float) -> None:
    coordinator = Coordinator(await hq.enrol(tmp_path / "pc", at=NOW - age))
    await hq.registry.revoke(SiteId("plant-7"))
    error = await refusal(renewals(tmp_path / "pc", coordinator))
    await coordinator.close()
    assert error.reason is ErrorReason.IDENTITY_REVOKED


async def test_a_stolen_tls_key_renews_nothing(hq: Membership, tmp_path: Path) -> None:
    own = await hq.enrol(tmp_path / "pc")
    thief = make_keys(tmp_path / "thief").identity
    coordinator = Coordinator(dataclasses.replace(own, identity_key=thief))
    error = await refusal(renewals(tmp_path / "pc", coordinator))
    await coordinator.close()
    assert error.reason is ErrorReason.SIGNATURE_INVALID
    assert (await hq.site()).certificate_serial == serial(own)


async def test_nobody_learns_which_sites_there_are(hq: Membership, tmp_path: Path) -> None:
    own = await hq.enrol(tmp_path / "pc")
    request = Request(serial=serial(own), tls_csr=certificate_request(new_tls_key()))
    thief = make_keys(tmp_path / "thief").identity
    sentences = []
    for stranger in (
        dataclasses.replace(own, identity_key=thief),
        dataclasses.replace(own, identity_key=thief, site=SiteId("plant-8")),
    ):
        with pytest.raises(RavanError) as caught:
            await recover(stranger, request)
        sentences.append(str(caught.value).replace(stranger.site, "NAME"))
    assert sentences[0] == sentences[1]


async def test_a_recorded_renewal_cannot_be_played_again(hq: Membership, tmp_path: Path) -> None:
    own = await hq.enrol(tmp_path / "pc")
    recorded = _recorded(own, hq.registry.challenge())
    proof = recorded.sign(own.identity_key)
    await hq.registry.recover(recorded, proof)
    issued = (await hq.site()).certificate_serial
    with pytest.raises(IdentityError) as caught:
        await hq.registry.recover(recorded, proof)
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID
    later = _recorded(own, hq.registry.challenge())
    with pytest.raises(IdentityError):
        await hq.registry.recover(dataclasses.replace(recorded, challenge=later.challenge), proof)
    hq.clock.advance(121)
    with pytest.raises(IdentityError):
        await hq.registry.recover(later, later.sign(own.identity_key))
    assert (await hq.site()).certificate_serial == issued


async def test_a_statement_for_the_connection_is_none_for_the_open_port(hq: Membership, tmp_path: Path) -> None:
    own = await hq.enrol(tmp_path / "pc")
    renewal = _recorded(own, b"")
    with pytest.raises(IdentityError) as caught:
        await hq.registry.recover(renewal, renewal.sign(own.identity_key))
    assert caught.value.reason is ErrorReason.SIGNATURE_INVALID


async def test_only_one_of_two_at_a_time_takes_a_challenge(hq: Membership, tmp_path: Path) -> None:
    own = await hq.enrol(tmp_path / "pc")
    challenge = hq.registry.challenge()
    attempts = [_recorded(own, challenge) for _ in range(2)]
    results = await asyncio.gather(
        *(hq.registry.recover(each, each.sign(own.identity_key)) for each in attempts), return_exceptions=True
    )
    assert sorted(isinstance(each, IdentityError) for each in results) == [False, True]


def _recorded(own: Identity, challenge: bytes) -> Renewal:
    return Renewal(site=own.site, serial=serial(own), tls_csr=certificate_request(new_tls_key()), challenge=challenge)
