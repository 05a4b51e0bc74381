"""What the service manager hears, on a real socket of the kind that systemd opens."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.service import notify
from edge_agent.service.notify import ServiceNotifier

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd's protocol needs Unix sockets")


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address as systemd writes it into the environment, and its end of the line."""
    address = str(tmp_path / "notify") if request.param == "file" else f"@ravan-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as line:
        line.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        line.settimeout(20)
        yield address, line


def heard(line: socket.socket) -> list[str]:
    return line.recv(4096).decode().split("\n")


async def test_it_hears_ready_signs_of_life_changes_and_the_end(manager: tuple[str, socket.socket]) -> None:
    address, line = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
    notifier, stop = ServiceNotifier.of(environment), asyncio.Event()
    assert environment == {}
    statuses = iter(["waiting", "waiting", "training\nround 3"])
    notifier.ready()
    running = asyncio.create_task(notifier.run(stop, lambda: next(statuses, "idle")))
    got = [await asyncio.to_thread(heard, line) for _ in range(5)]
    stop.set()
    await running
    assert got == [
        ["READY=1"],
        ["WATCHDOG=1", "STATUS=waiting"],
        ["WATCHDOG=1"],
        ["WATCHDOG=1", "STATUS=training round 3"],
        ["WATCHDOG=1", "STATUS=idle"],
    ]
    while (last := heard(line)) == ["WATCHDOG=1"]:
        pass
    assert last == ["STOPPING=1", "STATUS=ending"]


async def test_a_loop_that_stands_still_gives_no_sign(manager: tuple[str, socket.socket]) -> None:
    address, line = manager
    stop = asyncio.Event()
    running = asyncio.create_task(ServiceNotifier(address, 0.03).run(stop, lambda: ""))
    await asyncio.to_thread(heard, line)
    line.settimeout(0.3)
    with pytest.raises(TimeoutError):  # noqa: PT012 - what is heard before it stands still does not count
        while True:
            heard(line)  # blocks the loop on purpose
    stop.set()
    await running


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdogs_patience(environment: dict[str, str], expected: float) -> None:
    assert ServiceNotifier.of(environment).watchdog_s == expected


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "relative\0broken", "@" + "x" * 300])
def test_a_manager_that_cannot_be_reached_ends_nothing(address: str) -> None:
    ServiceNotifier(address, 1.0).ready()


def test_without_a_watchdog_only_changes_are_told(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, line = manager
    monkeypatch.setattr(notify, "LOOK_EVERY_S", 0.001)

    async def live() -> None:
        stop = asyncio.Event()
        statuses = iter(["a", *["a"] * 20, "b"])

        def describe() -> str:
            status = next(statuses)
            if status == "b":
                stop.set()
            return status

        await ServiceNotifier(address).run(stop, describe)

    asyncio.run(live())
    assert [heard(line) for _ in range(3)] == [["STATUS=a"], ["STATUS=b"], ["STOPPING=1", "STATUS=ending"]]


def test_children_do_not_inherit_the_line(manager: tuple[str, socket.socket]) -> None:
    code = (
        "import os, subprocess, sys; from edge_agent.service.notify import ServiceNotifier;"
        "ServiceNotifier.of(os.environ);"
        "sys.exit(subprocess.call([sys.executable, '-c', 'import os, sys; sys.exit(\"NOTIFY_SOCKET\" in os.environ)']))"
    )
    environment = {**os.environ, "NOTIFY_SOCKET": manager[0]}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
