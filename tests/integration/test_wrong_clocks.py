"""A PC whose clock is off by hours or years is told so, with both times, instead of that it may not come in."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from membership_ports import PROCESS, Membership, membership

from coordinator.enrolment.pki import Pki, create_pki
from edge_agent.identity.enrol import enrol
from edge_agent.session.connection import Coordinator
from ravan.errors import ErrorReason, RavanError
from ravan.identity.certificates import load_certificate
from ravan.identity.join import decode_invitation, encode_invitation
from ravan.manifest.instructions import Greeting

NOW = time.time()
HOUR_S, DAY_S = 3600.0, 86_400.0


def made(folder: Path, at: float) -> Pki:
    return create_pki(folder, ["hq.example"], now=at)


def shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


async def join_string(hq: Membership) -> str:
    return (await hq.registry.create_token("plant-7"))[0]


async def refused(text: str, folder: Path) -> RavanError:
    with pytest.raises(RavanError) as caught:
        await enrol(text, folder, timeout_s=20)
    return caught.value


async def test_a_clock_that_is_days_behind_cannot_enrol(tmp_path: Path) -> None:
    pki = made(tmp_path / "pki", NOW + 5 * DAY_S)
    async with membership(pki, now=NOW + 5 * DAY_S) as hq:
        error = await refused(await join_string(hq), tmp_path / "pc")
    begins = load_certificate(pki.server_certificate).not_valid_before_utc
    assert f"is good only from {shown(begins)} on: this PC's clock is behind" in str(error)
    assert f"This PC's clock shows {datetime.now(UTC):%Y-%m-%d}" in str(error)
    assert "time synchronisation" in error.next_step


async def test_a_clock_that_is_years_ahead_cannot_enrol(tmp_path: Path) -> None:
    pki = made(tmp_path / "pki", NOW - 800 * DAY_S)
    async with membership(pki, now=NOW - 800 * DAY_S) as hq:
        error = await refused(await join_string(hq), tmp_path / "pc")
    ends = load_certificate(pki.server_certificate).not_valid_after_utc
    assert f"is good only until {shown(ends)}: this PC's clock is ahead, or HQ has not renewed it" in str(error)
    assert "`ravan-coordinator ca renew`" in error.next_step


async def test_a_stranger_s_certificate_says_nothing_of_time(tmp_path: Path) -> None:
    async with membership(made(tmp_path / "one", NOW), now=NOW) as hq:
        own = decode_invitation(await join_string(hq))
    async with membership(made(tmp_path / "two", NOW - 800 * DAY_S), now=NOW) as stranger:
        there = decode_invitation(await join_string(stranger)).address
        error = await refused(encode_invitation(replace(own, address=there)), tmp_path / "pc")
    assert error.reason is ErrorReason.IDENTITY_MISMATCH
    assert "did not prove to be the coordinator" in str(error)


async def test_hours_keep_nobody_from_enrolling_and_are_told(tmp_path: Path) -> None:
    told: list[RavanError] = []
    async with membership(made(tmp_path / "pki", NOW), now=NOW + 5 * HOUR_S) as hq:
        await enrol(await join_string(hq), tmp_path / "pc", warn=told.append, timeout_s=20)
        hq.clock.time = time.time()
        await enrol(await join_string(hq), tmp_path / "other", warn=told.append, timeout_s=20)
    (fault,) = told
    assert shown(datetime.fromtimestamp(NOW + 5 * HOUR_S, UTC)) in str(fault)
    assert "behind" in str(fault)


async def test_a_certificate_that_only_this_pc_thinks_good_is_a_matter_of_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with membership(made(tmp_path / "pki", NOW - 40 * DAY_S), now=NOW) as hq:
        coordinator = Coordinator(await hq.enrol(tmp_path / "pc", at=NOW - 31 * DAY_S))
        messages = coordinator.watch(PROCESS, 0)
        with pytest.raises(RavanError, match="closed the connection"):
            await anext(messages)
        monkeypatch.setattr("edge_agent.session.diagnosis.time", SimpleNamespace(time=lambda: NOW - 10 * DAY_S))
        async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
            with pytest.raises(RavanError) as caught:
                await anext(messages)
        hq.clock.time = NOW - 10 * DAY_S  # then it must be something else
        async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
            with pytest.raises(RavanError, match="closed the connection"):
                await anext(messages)
        await coordinator.close()
    assert shown(datetime.fromtimestamp(NOW, UTC)) in str(caught.value)
    assert "this PC is 10 d 0 h behind" in str(caught.value)


async def test_a_good_clock_has_no_part_in_it(tmp_path: Path) -> None:
    async with membership(made(tmp_path / "pki", NOW), now=NOW) as hq:
        coordinator = Coordinator(await hq.enrol(tmp_path / "pc"))
        async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
            assert isinstance(await anext(messages), Greeting)
        await coordinator.close()
