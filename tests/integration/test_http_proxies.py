"""Enrolment and sessions through an HTTP proxy, in a house that lets nothing else out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from connect_proxy import HOST, ConnectProxy
from membership_ports import PROCESS, Membership, membership

from coordinator.enrolment.pki import create_pki
from edge_agent.config import load_config
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity, load_identity
from edge_agent.identity.reach import Reach, reach_of
from edge_agent.identity.recovery import renew_by_identity
from edge_agent.session.connection import Coordinator
from ravan.clock import SystemClock
from ravan.errors import ErrorReason, RavanError
from ravan.identity.certificates import read_caller
from ravan.identity.join import decode_invitation, encode_invitation
from ravan.manifest.instructions import Greeting
from ravan.way_out import Proxy, Way

NAME = "hq.example"
"""No resolver knows it: whoever dials it without the proxy gets nowhere."""
USER, PASSWORD = "plant 7", "pass:wörd@%2F"


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Membership]:
    now = SystemClock().now()
    async with membership(create_pki(tmp_path / "pki", [NAME], now=now), now=now) as ports:
        yield ports


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a channel through a proxy sets, before and after the test."""
    monkeypatch.delenv("no_grpc_proxy", raising=False)


async def join_string(hq: Membership, host: str = NAME) -> str:
    invitation = decode_invitation((await hq.registry.create_token("plant-7"))[0])
    return encode_invitation(replace(invitation, address=replace(invitation.address, host=host)))


def by(port: int, user: str = "", password: str = "") -> Reach:
    return Reach(way=Way(proxy=Proxy(host=HOST, port=port, user=user, password=password)))


async def greeting(identity: Identity, reach: Reach) -> object:
    coordinator = Coordinator(identity, reach)
    try:
        async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
            return await anext(messages)
    finally:
        await coordinator.close()


async def enroll(folder: Path, text: str, *options: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", "enroll", "-", "--dir", str(folder), *map(str, options)]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | variables,
    )


async def failure(folder: Path, text: str, reach: Reach) -> RavanError:
    with pytest.raises(RavanError) as caught:
        await enrol(text, folder, reach, timeout_s=20)
    return caught.value


async def test_enrolment_a_session_and_a_late_renewal_go_through_it(hq: Membership, tmp_path: Path) -> None:
    proxy = ConnectProxy(USER, PASSWORD)
    async with proxy.serve() as port:
        reach = by(port, USER, PASSWORD)
        identity = await enrol(await join_string(hq), tmp_path / "pc", reach, timeout_s=20)
        assert isinstance(await greeting(identity, reach), Greeting)
        renewed = await renew_by_identity(tmp_path / "pc", identity, reach)
    address = identity.address
    ports = (address.enrolment_port, address.site_port, address.enrolment_port)
    assert proxy.asked == [f"{NAME}:{port}" for port in ports]
    assert (proxy.lines, proxy.unproven) == (3, 0)
    assert read_caller(renewed.certificate) != read_caller(identity.certificate)


async def test_commands_keep_the_proxy_and_its_password_apart(hq: Membership, tmp_path: Path) -> None:
    proxy, secret = ConnectProxy(USER, PASSWORD), tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    async with proxy.serve() as port:
        url = f"http://plant%207@{HOST}:{port}"
        done = await enroll(tmp_path / "pc", await join_string(hq), "--proxy", url, "--proxy-password-file", secret)
        assert done.returncode == 0, done.stderr
        config = load_config(tmp_path / "pc" / "agent.toml", {})
        reach = reach_of(config.agent, {})
        assert isinstance(await greeting(load_identity(config.agent.identity_dir), reach), Greeting)
        again = await enroll(tmp_path / "pc", await join_string(hq), "--proxy", url)
    assert (proxy.lines, proxy.unproven) == (2, 0)
    assert (again.returncode, "leave --proxy away" in again.stderr) == (2, True)
    told = f"{done.stdout}{done.stderr}{(tmp_path / 'pc' / 'agent.toml').read_text()}{config!r}{reach!r}"
    assert url in told
    assert PASSWORD not in told


async def test_the_environment_s_proxy_is_used_unless_the_host_is_spared(hq: Membership, tmp_path: Path) -> None:
    proxy = ConnectProxy()
    async with proxy.serve() as port:
        url = f"http://{HOST}:{port}"
        spared = await enroll(tmp_path / "a", await join_string(hq), https_proxy=url, no_proxy=".example")
        assert (spared.returncode, proxy.asked) == (1, [])
        assert "cannot be resolved" in spared.stderr
        done = await enroll(tmp_path / "b", await join_string(hq), https_proxy=url, no_proxy="elsewhere.example")
    assert (done.returncode, proxy.lines) == (0, 1)


async def test_a_configured_proxy_goes_before_what_the_environment_spares(
    hq: Membership, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", NAME)
    async with (proxy := ConnectProxy()).serve() as port:
        await enrol(await join_string(hq), tmp_path / "pc", by(port), timeout_s=20)
    assert proxy.lines == 1


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        (ConnectProxy(USER, PASSWORD), "another user or password (HTTP 407)"),
        (ConnectProxy(refuses_with=403), "does not let this machine out to it (HTTP 403)"),
        (ConnectProxy(refuses_with=502), "does not reach it (HTTP 502)"),
    ],
)
async def test_a_proxy_that_refuses_is_not_got_around(
    hq: Membership, tmp_path: Path, proxy: ConnectProxy, words: str
) -> None:
    text = await join_string(hq, HOST)  # it could be dialled directly
    async with proxy.serve() as port:
        error = await failure(tmp_path / "pc", text, by(port, USER, "wrong"))
    token = await hq.store.transact("token", lambda read: read.get_token(decode_invitation(text).token_id))
    assert error.reason is ErrorReason.UNREACHABLE
    assert words in str(error)
    assert "wrong" not in f"{error} {error.next_step}"
    assert token is not None
    assert (token.used_at, proxy.lines) == (None, 0)


async def test_a_proxy_that_is_away_is_named(hq: Membership, tmp_path: Path) -> None:
    async with ConnectProxy().serve() as port:
        pass
    error = await failure(tmp_path / "pc", await join_string(hq, HOST), by(port))
    assert error.reason is ErrorReason.UNREACHABLE
    assert f"by the proxy {HOST}:{port}" in str(error)


async def test_a_stranger_behind_the_proxy_is_found_out(hq: Membership, tmp_path: Path) -> None:
    other = create_pki(tmp_path / "other", [NAME], now=SystemClock().now())
    invitation = decode_invitation(await join_string(hq))
    async with membership(other, now=SystemClock().now()) as stranger, (proxy := ConnectProxy()).serve() as port:
        there = decode_invitation(await join_string(stranger)).address
        error = await failure(tmp_path / "pc", encode_invitation(replace(invitation, address=there)), by(port))
    assert error.reason is ErrorReason.IDENTITY_MISMATCH
    assert set(proxy.asked) == {f"{NAME}:{there.enrolment_port}"}
