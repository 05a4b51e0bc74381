"""A real coordinator in a process of its own: founded, started, killed and measured from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psutil

from coordinator.config import CoordinatorFile, load_config
from coordinator.operator_client import Endpoint, local_endpoint

START_S: Final = 60.0
"""Longest wait for the coordinator to be ready."""

_TABLE: Final = "RAVAN_"


class Headquarters:
    """One data folder and the daemon on it."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Use a folder that need not exist; `settings` are variables such as `FLEET_SILENCE_S`, without the prefix."""
        self.folder = folder
        self.config = folder / "coordinator.toml"
        self.log = folder.with_suffix(".log")
        ports = dict(zip(("ENROLMENT_PORT", "SITE_PORT", "HTTP_PORT"), free_ports(3), strict=True))
        fixed = {"SERVER_LISTEN": "127.0.0.1"} | {f"SERVER_{name}": port for name, port in ports.items()}
        self._environment = {f"{_TABLE}{name}": str(value) for name, value in {**fixed, **settings}.items()}
        self._daemon: asyncio.subprocess.Process | None = None
        self._told_to_end = False

    @property
    def pid(self) -> int:
        """Return the daemon's process id."""
        assert self._daemon is not None
        return self._daemon.pid

    async def found(self) -> None:
        """Make the data folder."""
        founding = await asyncio.create_subprocess_exec(
            *_coordinator("init", self.folder, "--host", "localhost"), stdout=asyncio.subprocess.DEVNULL
        )
        if await founding.wait() != 0:
            raise RuntimeError("`ravan-coordinator init` failed; what it said stands above.")

    async def start(self) -> float:
        """Start the daemon; return the seconds until it said that it is ready."""
        began, self._told_to_end = time.perf_counter(), False
        with self.log.open("ab") as log:
            self._daemon = await asyncio.create_subprocess_exec(
                *_coordinator("serve", "--config", self.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        assert self._daemon.stdout is not None
        async with asyncio.timeout(START_S):
            line = await self._daemon.stdout.readline()
        if b" ready: " not in line:
            raise RuntimeError(f"The coordinator did not start; its log is {self.log}.")
        return time.perf_counter() - began

    async def kill(self) -> None:
        """End the daemon as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the daemon in order, if it runs."""
        if self._daemon is not None and self._daemon.returncode is None:
            await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        self._told_to_end = True
        self._daemon.send_signal(number)
        await self._daemon.wait()

    def check(self) -> None:
        """Raise RuntimeError when the daemon ended without being told to."""
        if self._daemon is not None and self._daemon.returncode is not None and not self._told_to_end:
            raise RuntimeError(f"The coordinator ended by itself: {self._daemon.returncode}. Its log is {self.log}.")

    def endpoint(self) -> Endpoint:
        """Return how an operator reaches it."""
        return local_endpoint(self.settings(), self.config)

    def settings(self) -> CoordinatorFile:
        """Return the configuration that the daemon runs with."""
        return load_config(self.config, self._environment)

    def cpu_s(self) -> float:
        """Return the processor seconds of the daemon, its evaluation process left out."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Return the daemon's resident memory in MB."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def peak_rss_mb(self) -> float:
        """Return the highest resident memory since the start or the last `forget_peak`, in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("This kernel tells no peak of resident memory.")

    def forget_peak(self) -> None:
        """Begin to watch for a new peak."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def disk_mb(self) -> float:
        """Return what the data folder takes, in MB."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) / 1e6


def free_ports(count: int) -> Sequence[int]:
    """Return ports of the loopback address that nobody uses now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _coordinator(*arguments: str | Path) -> Sequence[str]:
    return [sys.executable, "-m", "coordinator", *map(str, arguments)]
