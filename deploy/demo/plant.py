"""The demo's processes: one coordinator and five agents in memory cages, started as an operator would."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.memory import MemoryCage, build_cage

_BIN: Final = Path(sys.executable).parent
START_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """One site of the demo."""

    name: str
    ram_limit_mb: int
    upload_kib_per_s: int = 0
    """A slow line, as many plants have; 0 means no limit."""


@dataclass(slots=True, kw_only=True)
class RunningSite:
    """A site's agent process and its cage."""

    settings: SiteSettings
    process: subprocess.Popen[bytes]
    cage: MemoryCage


class CommandFailedError(Exception):
    """A command of the product failed; the text is what it printed."""


class Plant:
    """Everything that runs, under one folder that a second run may use again."""

    def __init__(self, folder: Path, *, usual_ports: bool = True) -> None:
        """Use `folder`; without the usual ports the coordinator gets any that are free."""
        self.folder = folder.resolve()
        self._usual_ports = usual_ports
        self.coordinator_folder = self.folder / "coordinator"
        self.config = self.coordinator_folder / "coordinator.toml"
        self.sites: dict[str, RunningSite] = {}
        self._coordinator: subprocess.Popen[bytes] | None = None
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)

    def start_coordinator(self) -> str:
        """Create the data folder when there is none, start the daemon, return its HTTP address."""
        if not self.config.exists():
            self._initialise()
        self._ports_file.unlink(missing_ok=True)
        daemon = self._spawn("coordinator", [_program("ravan-coordinator"), "serve", "--config", self.config])
        self._coordinator = daemon
        server = tomllib.loads(self.config.read_text())["server"]
        url = f"http://127.0.0.1:{server['http_port']}"
        self._await_ready(daemon, url)
        return url

    def command(self, *arguments: str | Path) -> str:
        """Run one `ravan-coordinator` command against the daemon and return what it printed."""
        return _run([_program("ravan-coordinator"), *arguments, "--config", self.config])

    def enrol(self, settings: SiteSettings, data: Path) -> None:
        """Enrol a site unless an earlier run did, and tell its agent where the data lie."""
        folder = self.site_folder(settings.name)
        if not (folder / "agent.toml").exists():
            join = self.command("token", "create", "--site", settings.name).strip().splitlines()[-1]
            _run([_program("ravan-agent"), "enroll", join, "--dir", folder])
            with (folder / "agent.toml").open("a", encoding="utf-8") as file:
                file.write(
                    f'\n[data.work-orders]\npath = "{data}"\nformat = "csv"\ntext = "text"\nlabel = "subsystem"\n'
                )

    def start_site(self, settings: SiteSettings) -> RunningSite:
        """Start an agent inside its cage."""
        cage = build_cage(settings.name, settings.ram_limit_mb)
        kept = self.folder / "kept" / settings.name
        command = [
            _program("ravan-agent"),
            *("run", "--config", self.site_folder(settings.name) / "agent.toml", "--keep-quantised", kept),
        ]
        environment = {
            "OMP_NUM_THREADS": "1",
            "RAVAN_AGENT_THREADS": "1",
            "RAVAN_AGENT_UPLOAD_KIB_PER_S": str(settings.upload_kib_per_s),
        }
        process = self._spawn(f"site-{settings.name}", cage.wrap([str(part) for part in command]), environment)
        running = RunningSite(settings=settings, process=process, cage=cage)
        self.sites[settings.name] = running
        return running

    def kill_site(self, name: str) -> None:
        """End an agent as a power cut would."""
        process = self.sites[name].process
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.sites[name].cage.close()

    def kill_coordinator(self) -> None:
        """End the coordinator as a power cut would."""
        if self._coordinator is not None:
            self._coordinator.kill()
            self._coordinator.wait()

    def stop(self) -> None:
        """End everything, agents first."""
        processes = [site.process for site in self.sites.values()]
        if self._coordinator is not None:
            processes.append(self._coordinator)
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for site in self.sites.values():
            site.cage.close()

    @property
    def _ports_file(self) -> Path:
        return self.coordinator_folder / "daemon.json"

    def site_folder(self, name: str) -> Path:
        """Return where a site's agent keeps its files."""
        return self.folder / "sites" / name

    def log(self, name: str) -> Path:
        """Return a process's log file."""
        return self.folder / "logs" / f"{name}.log"

    def _initialise(self) -> None:
        _run([_program("ravan-coordinator"), "init", self.coordinator_folder, "--host", "localhost"])
        text = set_key(self.config.read_text(encoding="utf-8"), "listen", '"127.0.0.1"')
        for key, port in (("enrolment_port", 8440), ("site_port", 8443), ("http_port", 9464)):
            text = set_key(text, key, _choose_port(port if self._usual_ports else 0))
        for key, value in (("heartbeat_interval_s", 1), ("silence_s", 3), ("threads", 2)):
            text = set_key(text, key, value)
        self.config.write_text(text, encoding="utf-8")

    def _spawn(
        self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def _await_ready(self, daemon: subprocess.Popen[bytes], url: str) -> None:
        for _ in range(START_TIMEOUT_S * 5):
            # The file tells that it is this daemon that answers, and not another one on the same port.
            with suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:  # noqa: S310
                if answer.status == 200 and self._ports_file.exists():
                    return
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=0.2)
                break
        tail = self.log("coordinator").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise CommandFailedError(f"the coordinator did not get ready; its log ends:\n{tail}")


def _program(name: str) -> Path:
    return _BIN / name


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailedError(f"{' '.join(map(str, command[:3]))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def set_key(text: str, key: str, value: object) -> str:
    """Give a key of a commented configuration file a value."""
    changed, count = re.subn(rf"(?m)^(# )?{key} = .*$", f"{key} = {value}", text, count=1)
    if count != 1:
        raise CommandFailedError(f"the configuration file has no key {key}")
    return changed


def _choose_port(usual: int) -> int:
    """Keep the usual port when it is free, else take one that is; agents remember it."""
    for port in (usual, 0):
        with socket.socket() as probe:
            # A port on which an earlier run's connections still linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise CommandFailedError("no port of this machine is free")
