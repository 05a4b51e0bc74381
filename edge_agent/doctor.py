"""Find out why an agent does not take part: one finding a line, each with its remedy."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Final

from cryptography import x509
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_agent.config import AgentFile
from edge_agent.data.inspection import inspect_data
from edge_agent.data.report import UNIT, Expectation
from edge_agent.finding import Finding, bad
from edge_agent.hardware.checkup import check_machine
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.probe import HardwareProbe
from edge_agent.identity.keystore import Identity, load_identity
from edge_agent.identity.reach import Reach, reach_of
from edge_agent.identity.recovery import ask_time
from edge_agent.session.acquaintances import fingerprint
from edge_agent.session.connection import Coordinator
from ravan.errors import DataError, RavanError
from ravan.identity.certificates import describe_authority
from ravan.identity.keys import raw_public
from ravan.identity.renewal import renewal_due
from ravan.rpc.addresses import target_of
from ravan.rpc.channel import open_channel
from ravan.rpc.clock_faults import clocks_differ
from ravan.rpc.handshake import look_closer
from ravan.rpc.proxy import name_peer
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client

REACH_TIMEOUT_S: Final = 10.0
OVERDUE_S: Final = 86_400.0
"""After this long a renewal that is due counts as one that does not work."""


async def examine(config: AgentFile) -> list[Finding]:
    """Check identity, certificate, clock, coordinator, disk, memory and data; never raises RavanError."""
    try:
        identity = load_identity(config.agent.identity_dir)
    except RavanError as error:
        return [bad("identity", error), *check_machine(config), *_check_data(config)]
    return [
        Finding(name="identity", good=True, sentence=_name_identity(identity)),
        _check_certificate(identity, time.time()),
        await _check_clock(config, identity),
        *[finding async for finding in _check_coordinator(config, identity)],
        *check_machine(config),
        *_check_data(config),
    ]


def _name_identity(identity: Identity) -> str:
    """Give the key by the fingerprint that other sites show for it."""
    return f"this PC is the site {identity.site}, key {fingerprint(raw_public(identity.identity_key))}"


def _check_certificate(identity: Identity, now: float) -> Finding:
    """Find fault where the renewal is late; an agent that starts with an expired certificate renews it first."""
    days = (identity.certificate_expires_at - now) / 86_400
    sentence = f"valid for {days:.1f} more days" if days > 0 else f"expired {-days:.1f} days ago"
    good = days > 0 and now < renewal_due(identity.certificate) + OVERDUE_S
    remedy = (
        "Start the agent, which renews it. If its log says that HQ refuses: ask for a join string, and"
        " `ravan-agent enroll - --dir DIR --replace`."
    )
    return Finding(name="certificate", good=good, sentence=sentence, remedy="" if good else remedy)


async def _check_clock(config: AgentFile, identity: Identity) -> Finding:
    """Compare with the coordinator's clock, or where nobody tells its time, with the certificate."""
    theirs, now = await _their_time(config, identity), time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if theirs is not None:
        fault = clocks_differ(now, theirs)
        sentence = f"{shown}, as the coordinator's"
        return Finding(name="clock", good=True, sentence=sentence) if fault is None else bad("clock", fault)
    if now < x509.load_pem_x509_certificate(identity.certificate).not_valid_before_utc.timestamp():
        remedy = "Set this PC's clock, for instance by turning on time synchronisation."
        return Finding(
            name="clock", good=False, sentence=f"{shown}, which is before its certificate was made", remedy=remedy
        )
    return Finding(name="clock", good=True, sentence=f"{shown}; the coordinator did not tell its own")


async def _their_time(config: AgentFile, identity: Identity) -> float | None:
    try:
        reach = reach_of(config.agent, os.environ)
        return await ask_time(identity.address, reach, identity.ca_certificate) or None
    except RavanError:
        return None


async def _check_coordinator(config: AgentFile, identity: Identity) -> AsyncIterator[Finding]:
    """Look at each of its addresses; where one does not answer, whether its name is known here at all."""
    try:
        reach = reach_of(config.agent, os.environ)
    except RavanError as error:
        yield bad("proxy", error)
        return
    for place in reach.places(identity.address):
        found = await _try_coordinator(config, replace(identity, address=place), Reach(way=reach.way))
        # A proxy looks names up by itself.
        if not found.good and not reach.way.to(place.host) and (unknown := await _check_name(place.host)) is not None:
            yield unknown
        yield found


async def _check_name(host: str) -> Finding | None:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        remedy = f"Ask for an entry of {host} in the plant's DNS, or write its address into this PC's hosts file."
        return Finding(name="address", good=False, sentence=f"this PC knows no address of {host}", remedy=remedy)
    return None


async def _try_coordinator(config: AgentFile, identity: Identity, reach: Reach) -> Finding:
    """Ask whether it serves, which anybody may, then make a call of a site, which a revoked one may not."""
    address = identity.address
    target = target_of(address.host, address.site_port)
    try:
        serving = await _is_serving(identity, reach)
        if serving:
            await _report(config, Coordinator(identity, reach))
    except TimeoutError:
        sentence = f"{target} answers, but took no report within {REACH_TIMEOUT_S:.0f} seconds"
        return Finding(name="coordinator", good=False, sentence=sentence, remedy="Ask HQ; try later.")
    except RavanError as error:
        return bad("coordinator", error)
    if not serving:
        return Finding(
            name="coordinator", good=False, sentence=f"{target} answers but does not serve", remedy="Ask HQ; try later."
        )
    return Finding(name="coordinator", good=True, sentence=f"{target} answers and takes this site's reports")


async def _is_serving(identity: Identity, reach: Reach) -> bool:
    address = identity.address
    proxy = reach.way.to(address.host)
    credentials = enrolled_client(
        key=identity.tls_key, certificate=identity.certificate, ca_certificate=identity.ca_certificate
    )
    async with open_channel(address.host, address.site_port, credentials, proxy) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=REACH_TIMEOUT_S
            )
        except aio.AioRpcError as error:
            authority = describe_authority(identity.ca_certificate)
            target = name_peer(address.host, address.site_port, proxy)
            refusal = error_from_rpc(error, address=target, authority=authority)
            raise await look_closer(refusal, address.host, address.site_port, identity.ca_certificate, proxy) from error
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _report(config: AgentFile, coordinator: Coordinator) -> None:
    """Report the hardware as a running agent does; raise what the coordinator refuses it with, or TimeoutError."""
    limits = LimitReader(configured_mb=config.agent.ram_limit_mb)
    hardware = await asyncio.to_thread(HardwareProbe(limits, config.agent.disk_share()).read)
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            await coordinator.report_hardware(hardware)
    finally:
        await coordinator.close()


def _check_data(config: AgentFile) -> Iterator[Finding]:
    if not config.data:
        yield Finding(
            name="data",
            good=False,
            sentence="no data file is configured",
            remedy="Add a [data.NAME] table to agent.toml; HQ knows which NAME jobs ask for.",
        )
    for name in config.data:
        try:
            report = inspect_data(config, name, Expectation())
        except DataError as error:
            yield bad(f"data {name}", error)
        else:
            counts = f"{report.found} {UNIT[report.kind]}, {len(report.per_label)} labels"
            sentence = " ".join((f"{counts}.", *report.faults[:1])) if report.faults else counts
            yield Finding(name=f"data {name}", good=not report.obstacle, sentence=sentence, remedy=report.obstacle)
