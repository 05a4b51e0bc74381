"""`docs/network.md` quotes the ports, times and sizes that the code has, and the TLS versions that a port takes."""

from __future__ import annotations

import asyncio
import json
import ssl
import warnings
from pathlib import Path

import pytest
from pages import read_page, read_section
from running_coordinator import running_coordinator

from coordinator.config import FleetTable, ServerTable
from coordinator.jobs.jobfile import RoundTable
from edge_agent import doctor
from edge_agent.identity import enrol
from edge_agent.session import connection, reconnect
from ravan.codec import chunks
from ravan.rpc import clock_faults, keepalive

PAGE = read_page("network.md")
VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
OPTIONS = dict(keepalive.CHANNEL_OPTIONS)


def rows_of(heading: str) -> list[list[str]]:
    lines = [line for line in read_section(PAGE, heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


FIGURES = {row[0]: row[1] for row in rows_of("## Figures")}


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("ping while nothing else is sent", f"every {OPTIONS['grpc.keepalive_time_ms'] // 1000} s"),
        ("a ping without an answer ends the connection after", f"{OPTIONS['grpc.keepalive_timeout_ms'] // 1000} s"),
        ("heartbeat of a connected PC", f"every {FleetTable().heartbeat_interval_s} s"),
        ("a PC whose connection ended is out of its round after", f"{FleetTable().silence_s:.0f} s"),
        ("pause before dialling again", f"{reconnect.FIRST_S} s, doubling to {reconnect.LONGEST_S:.0f} s"),
        ("deadline of a call", f"{connection.CALL_DEADLINE_S:.0f} s"),
        ("patience of `ravan-agent enroll`", f"{enrol.ENROL_TIMEOUT_S:.0f} s"),
        ("patience of `ravan-agent doctor` for each question", f"{doctor.REACH_TIMEOUT_S:.0f} s"),
        ("clocks that differ by more are named", f"{clock_faults.TOLERANCE_S:.0f} s"),
        (
            "a transfer goes in pieces of",
            f"{chunks.CHUNK_BYTES >> 10} KiB, with `upload_kib_per_s` {chunks.SMALL_CHUNK_BYTES >> 10} KiB",
        ),
    ],
)
def test_figures_are_those_of_the_code(what: str, value: str) -> None:
    assert FIGURES[what] == value


def test_ports_and_deadline_are_the_defaults() -> None:
    ports = [row[2] for row in rows_of("## What has to be let through")][:2]
    server = ServerTable(hosts=("localhost",))
    assert ports == [f"{server.enrolment_port}/tcp", f"{server.site_port}/tcp"]
    assert f"`phase_deadline_s` ({RoundTable().phase_deadline_s:.0f} s)" in PAGE


async def test_ports_take_tls_1_2_and_1_3_and_nothing_older(tmp_path: Path) -> None:
    async with running_coordinator(tmp_path) as hq:
        port = json.loads((hq.folder / "data" / "daemon.json").read_text())["enrolment_port"]
        taken = {version for version in VERSIONS if await _takes(hq.folder, port, version)}
    assert taken == {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3}
    assert FIGURES["TLS"] == "1.2 and 1.3, nothing older"


async def _takes(folder: Path, port: int, version: ssl.TLSVersion) -> bool:
    context = ssl.create_default_context(cafile=folder / "data" / "pki" / "ca.crt")
    # This side would do any, so that a refusal is the port's.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    try:
        _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        return False
    writer.close()
    return True
