"""`ravan-agent` as real processes: exit codes, sentences, no open port, a clean end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psutil
import pytest
from scripted_headquarters import Attached, Headquarters, enrol_by_hand, headquarters
from tiny_jobs import write_rows

from edge_agent.config import load_config
from edge_agent.doctor import examine
from edge_agent.identity.keystore import load_identity
from edge_agent.session.acquaintance_file import AcquaintanceFile
from ravan.identity.endorsement import is_endorsed
from ravan.identity.keys import raw_public
from ravan.ids import SiteId
from ravan.manifest.assignment import Member
from ravan.manifest.profile import HardwareProfile
from ravan.version import VERSION

SITES = {1: "north", 2: "west"}
COMMAND = [sys.executable, "-m", "edge_agent"]


def run(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, input=text, timeout=120, check=False)


async def run_async(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, while this process goes on serving."""
    return await asyncio.to_thread(run, *arguments)


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Headquarters]:
    async with headquarters(tmp_path / "hq") as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the line."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as line:
        line.bind(str(tmp_path / "notify"))
        line.setblocking(False)
        yield line


async def heard_until(line: socket.socket, last: str) -> list[str]:
    told: list[str] = []
    async with asyncio.timeout(60):
        while last not in told:
            told += (await asyncio.get_running_loop().sock_recv(line, 4096)).decode().split("\n")
    return told


@asynccontextmanager
async def running(config: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("run", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines_of(process: asyncio.subprocess.Process) -> list[dict[str, object]]:
    assert process.stdout is not None
    return [json.loads(line) for line in (await process.stdout.read()).splitlines()]


def data_table(path: Path) -> str:
    return f'\n[data.orders]\npath = "{path}"\nformat = "csv"\ntext = "text"\nlabel = "label"\n'


def test_version_and_help() -> None:
    assert run("--version").stdout == f"ravan-agent {VERSION}\n"
    done = run("--help")
    assert done.returncode == 0
    assert "enroll" in done.stdout


def test_help_is_light() -> None:
    code = (
        "import sys; from edge_agent.cli import cli; cli(['--help'], standalone_mode=False);"
        "print([name for name in ('grpc', 'torch', 'numpy', 'pydantic', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [["run"], ["config", "check"], ["data", "check"], ["doctor"]])
def test_without_a_configuration(tmp_path: Path, command: list[str]) -> None:
    done = run(*command, "--config", tmp_path / "agent.toml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"Error: There is no configuration file {tmp_path / 'agent.toml'}.",
        "Create it with `ravan-agent enroll JOIN_STRING --dir DIR`.",
    ]


def test_wrong_use() -> None:
    assert run("run", "--keep-quantized", "x").returncode == 2


def test_a_misspelt_key(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[agent]\nthread = 1\n")
    done = run("config", "check", "--config", tmp_path / "agent.toml")
    assert done.returncode == 2
    assert "`threads`" in done.stderr


def test_a_damaged_join_string(tmp_path: Path) -> None:
    done = run("enroll", "-", "--dir", tmp_path / "site", text="ravan1.abc\n")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "site" / "agent.toml").exists()


def test_data_check_counts(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(data_table(write_rows(tmp_path / "rows.csv")))
    done = run("data", "check", "--config", config)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "orders: 16 rows, 12 there already"
    assert "hose" not in done.stdout
    report = json.loads(run("data", "check", "--config", config, "--json").stdout)
    assert report["orders"]["per_label"] == {"cab": 4, "engine": 4, "pump": 8}


def test_data_check_says_whether_the_site_could_join(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(data_table(write_rows(tmp_path / "rows.csv")) + '[data.broken]\npath = "nowhere"\n')
    done = run("data", "check", "orders", "--config", config, "--job-labels", "pump, engine,cab,brake")
    assert done.returncode == 0
    assert done.stdout.endswith("This PC could take part in a job with these labels.\n")
    done = run("data", "check", "orders", "--config", config, "--job-labels", "pump,engine", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)["orders"]
    assert report["faulty"] == 4
    assert "line 5, has the label 'cab'" in report["faults"][0]
    assert report["obstacle"]
    done = run("data", "check", "order", "--config", config)
    assert (done.returncode, "`orders`" in done.stderr) == (1, True)


def test_data_check_of_a_missing_file(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(data_table(tmp_path / "rows.csv"))
    done = run("data", "check", "--config", config, "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["reason"] == "DATA_UNREADABLE"


def test_probe_tells_the_limit(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nram_limit_mb = 700\nthreads = 2\n")
    report = json.loads(run("probe", "--config", config, "--json").stdout)
    assert (report["ram_limit_bytes"], report["ram_limit_source"], report["threads"]) == (700 << 20, "config", 2)
    assert report["jobs"] == []


@pytest.fixture
def config_of_two_sites(tmp_path: Path) -> Path:
    config = tmp_path / "agent.toml"
    config.write_text("")
    (tmp_path / "state").mkdir()
    members = [Member(index=i, site=SiteId(name), identity_key=bytes([i] * 32), tiles=()) for i, name in SITES.items()]
    AcquaintanceFile(tmp_path / "state").meet(members, 1_700_000_000.5)
    return config


def test_sites_are_listed_by_fingerprint(config_of_two_sites: Path) -> None:
    done = run("site", "list", "--config", config_of_two_sites)
    # printf of 32 bytes of 1, or of 2, through sha256sum; date -u -d @1700000000
    assert done.stdout.splitlines() == [
        "north  72cd6e8422c407fb  first seen 2023-11-14T22:13:20+00:00",
        "west   75877bb41d393b5f  first seen 2023-11-14T22:13:20+00:00",
    ]
    listed = json.loads(run("site", "list", "--config", config_of_two_sites, "--json").stdout)
    assert listed[1] == {
        "site": "west",
        "fingerprint": "75877bb41d393b5f",
        "first_seen": "2023-11-14T22:13:20+00:00",
    }


def test_a_site_is_forgotten(config_of_two_sites: Path) -> None:
    done = run("site", "forget", "west", "--config", config_of_two_sites)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "west is forgotten; its key was 75877bb41d393b5f."
    listed = json.loads(run("site", "list", "--config", config_of_two_sites, "--json").stdout)
    assert [each["site"] for each in listed] == ["north"]
    again = run("site", "forget", "west", "--config", config_of_two_sites)
    assert again.returncode == 1
    assert again.stderr.splitlines() == [
        "Error: This PC has never met a site 'west'.",
        "`ravan-agent site list` shows those that it has met.",
    ]


def test_sites_before_the_first_round(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    done = run("site", "list", "--config", config)
    assert done.stdout == "No other site yet; this PC meets them in its first round.\n"
    assert run("site", "list", "--config", config, "--json").stdout == "[]\n"
    assert run("site", "forget", "west", "--config", config).returncode == 1
    assert list(tmp_path.iterdir()) == [config]


async def test_it_listens_on_no_port_and_ends_cleanly(hq: Headquarters, tmp_path: Path, manager: socket.socket) -> None:
    config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site")
    async with running(config, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="900000") as process:
        await hq.hear(HardwareProfile)
        told = await heard_until(manager, "STATUS=site site-0: connected; idle")
        connections = psutil.Process(process.pid).net_connections(kind="inet")
        assert [each for each in connections if each.status == psutil.CONN_LISTEN] == []
        assert {each.raddr.port for each in connections if each.raddr} == {hq.port}
        process.send_signal(signal.SIGTERM)
        lines = await lines_of(process)
        assert await process.wait() == 0
    assert (told[0], "WATCHDOG=1" in told) == ("READY=1", True)
    await heard_until(manager, "STOPPING=1")
    assert lines[-1]["event"] == "ravan-agent ended"
    assert all(line["level"] in {"info", "debug"} for line in lines)


async def test_a_second_agent_with_the_same_identity(hq: Headquarters, tmp_path: Path) -> None:
    config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site")
    async with running(config):
        await hq.hear(Attached)
        done = await run_async("run", "--config", config)
    assert done.returncode == 1
    assert "Another process on this PC uses the identity" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_coordinator_that_cannot_be_reached_is_said_once(tmp_path: Path) -> None:
    async with headquarters(tmp_path / "hq") as hq:
        config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site")
        port = hq.port
    async with running(config) as process:
        assert process.stdout is not None
        warning: dict[str, object] = {"level": "info"}
        async with asyncio.timeout(60):
            while warning["level"] != "warning":
                warning = json.loads(await process.stdout.readline())
        assert warning["event"] == f"The coordinator at 127.0.0.1:{port} cannot be reached."
        # Several attempts later nothing more was said.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert [line["event"] for line in await lines_of(process)] == ["ravan-agent ended"]
        assert await process.wait() == 0


async def test_doctor_in_health(hq: Headquarters, tmp_path: Path) -> None:
    config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site", data_table(write_rows(tmp_path / "rows.csv")))
    done = await run_async("doctor", "--config", config, "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, findings
    assert [each["name"] for each in findings] == [
        *("identity", "certificate", "clock", "coordinator", "folders", "disk", "memory", "data orders"),
    ]
    own_key = raw_public(load_identity(config.parent / "identity").identity_key)
    assert findings[0]["sentence"].endswith(f"key {hashlib.sha256(own_key).hexdigest()[:16]}")


async def test_doctor_names_each_trouble_with_its_remedy(tmp_path: Path) -> None:
    async with headquarters(tmp_path / "hq") as hq:
        config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site", data_table(tmp_path / "missing.csv"))
    done = await run_async("doctor", "--config", config)
    assert done.returncode == 1
    bad = [line for line in done.stdout.splitlines() if line.startswith("BAD")]
    assert [line.split()[1] for line in bad] == ["coordinator:", "data"]
    assert all(" -> " in line for line in bad)


async def test_doctor_finds_a_name_that_nobody_knows(hq: Headquarters, tmp_path: Path) -> None:
    config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site", data_table(write_rows(tmp_path / "rows.csv")))
    place = config.parent / "identity" / "site.json"
    place.write_text(place.read_text().replace("127.0.0.1", "hq.invalid"))  # a name that never is one (RFC 6761)
    findings = {finding.name: finding for finding in await examine(load_config(config))}
    assert "hq.invalid" in findings["address"].sentence
    assert "DNS" in findings["address"].remedy
    assert not findings["coordinator"].good


async def test_owner_and_identity_commands_make_an_endorsement_that_holds(hq: Headquarters, tmp_path: Path) -> None:
    config = enrol_by_hand(hq.pki, hq.port, tmp_path / "site")
    key = tmp_path / "owner" / "owner.key"
    made = await run_async("owner", "create", "--out", key)
    assert made.returncode == 0, made.stderr
    owner_key = bytes.fromhex(made.stdout.strip())
    assert key.stat().st_mode & 0o777 == 0o600
    assert f'owner_key = "{owner_key.hex()}"' in made.stderr
    again = await run_async("owner", "create", "--out", key)
    assert (again.returncode, "every endorsement with it" in again.stderr) == (1, True)

    shown = json.loads((await run_async("identity", "--config", config, "--json")).stdout)
    own = load_identity(config.parent / "identity")
    assert (shown["site"], shown["identity"]) == (own.site, raw_public(own.identity_key).hex())
    endorsed = await run_async("owner", "endorse", "--key", key, "--site", own.site, "--identity", shown["identity"])
    assert endorsed.returncode == 0, endorsed.stderr
    assert is_endorsed(owner_key, own.site, raw_public(own.identity_key), bytes.fromhex(endorsed.stdout.strip()))
    wrong = await run_async("owner", "endorse", "--key", key, "--site", own.site, "--identity", "abc")
    assert (wrong.returncode, "64 hexadecimal digits" in wrong.stderr) == (1, True)
