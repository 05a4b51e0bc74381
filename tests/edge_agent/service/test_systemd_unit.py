"""The unit is one that systemd takes and finds well locked; installing it does so in the right order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripted_headquarters import enrol_by_hand

from coordinator.enrolment.pki import create_pki
from edge_agent.cli import cli
from edge_agent.config import load_config
from edge_agent.service.systemd import SystemdHost, unit_settings
from edge_agent.service.unit import UnitSettings, render_unit
from ravan.errors import ConfigError, ErrorReason, ResourceError, StateError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="units are systemd's")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")

MOST_EXPOSED = 15
"""systemd-analyze calls up to 20 tenths safe enough (OK); more than this would be a setting lost."""
AWKWARD = 'Werk 100% "Süd" $HOME \\ 工場'


def settings(folder: Path, **changes: object) -> UnitSettings:
    values: dict[str, object] = {
        "command": (sys.executable, "-I", "-m", "edge_agent", "run", "--config", str(folder / "agent.toml")),
        "user": "daemon",
        "config_path": folder / "agent.toml",
        "read": (),
        "written": (folder / "identity", folder / "state"),
    }
    return UnitSettings(**(values | changes))  # type: ignore[arg-type]


def lines_of(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def analyse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)


@needs_systemd
@pytest.mark.parametrize("limit_mb", [0, 1500])
def test_systemd_takes_the_unit(tmp_path: Path, limit_mb: int) -> None:
    folder = tmp_path / AWKWARD
    folder.mkdir()
    unit = tmp_path / "ravan-agent.service"
    unit.write_text(render_unit(settings(folder, ram_limit_mb=limit_mb)), encoding="utf-8")
    done = analyse("verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_systemd_reads_the_program_as_it_is_called(tmp_path: Path) -> None:
    program = tmp_path / "Werk 100% Süd 工場"
    unit = tmp_path / "ravan-agent.service"
    unit.write_text(render_unit(settings(tmp_path, command=(str(program), "run"))), encoding="utf-8")
    done = analyse("verify", unit)
    assert f"Command {program} is not executable" in done.stderr


@needs_systemd
def test_systemd_finds_it_well_locked(tmp_path: Path) -> None:
    unit = tmp_path / "ravan-agent.service"
    unit.write_text(render_unit(settings(tmp_path)), encoding="utf-8")
    done = analyse("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout
    unit.write_text(render_unit(settings(tmp_path)).replace("CapabilityBoundingSet=", ""), encoding="utf-8")
    assert analyse("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit).returncode != 0


def test_only_the_agents_own_folders_may_be_written(tmp_path: Path) -> None:
    text = render_unit(settings(tmp_path))
    assert lines_of(text, "ReadWritePaths") == [f'"{tmp_path / "identity"}"', f'"{tmp_path / "state"}"']
    assert lines_of(text, "ProtectSystem") == ["strict"]
    assert lines_of(text, "CapabilityBoundingSet") == [""]


@pytest.mark.parametrize(
    ("place", "expected"), [("/srv/data.csv", "yes"), ("/home/mia/data.csv", "read-only"), ("/homes/data.csv", "yes")]
)
def test_peoples_folders_are_hidden_unless_data_lie_there(place: str, expected: str) -> None:
    text = render_unit(settings(Path("/srv/ravan"), command=("/usr/bin/python3",), read=(Path(place),)))
    assert lines_of(text, "ProtectHome") == [expected]


@pytest.mark.parametrize(
    ("limit_mb", "high", "most"), [(0, [], []), (800, ["800M"], ["928M"]), (8000, ["8000M"], ["9000M"])]
)
def test_a_memory_limit_is_systemds_as_well(limit_mb: int, high: list[str], most: list[str]) -> None:
    text = render_unit(settings(Path("/srv"), ram_limit_mb=limit_mb))
    assert (lines_of(text, "MemoryHigh"), lines_of(text, "MemoryMax")) == (high, most)


def test_a_path_that_would_add_a_line_is_refused() -> None:
    with pytest.raises(StateError) as refused:
        render_unit(settings(Path("/srv/a\nExecStartPre=+/bin/sh")))
    assert refused.value.reason is ErrorReason.MALFORMED


@pytest.mark.parametrize("name", ["", "../cron", "a b", "a.service/../../x", "-rf"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        SystemdHost(name)


class Manager:
    """A `systemctl` that writes down what it is asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.units = folder / "asked", folder / "units"
        self.program = folder / "bin" / "systemctl"
        self.program.parent.mkdir()
        self.units.mkdir()
        self.answer("")
        monkeypatch.setenv("PATH", str(self.program.parent), prepend=os.pathsep)

    def answer(self, text: str, code: int = 0) -> None:
        said = "\n".join(f"echo '{line}' >&{2 if code else 1}" for line in text.splitlines())
        self.program.write_text(f'#!/bin/sh\necho "$@" >> {self.asked}\n{said}\nexit {code}\n')
        self.program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.asked.read_text().splitlines()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    return Manager(tmp_path, monkeypatch)


@pytest.fixture
def enrolled(tmp_path: Path) -> tuple[Path, str]:
    """An agent's configuration, and the user whose it is: never root."""
    config = enrol_by_hand(create_pki(tmp_path / "pki", ["127.0.0.1"], now=time.time()), 1, tmp_path / "site")
    if os.geteuid() == 0:
        for path in (config.parent, *config.parent.rglob("*")):
            shutil.chown(path, "nobody")
    return config, config.owner()


def test_installing_writes_the_unit_and_starts_it(manager: Manager, enrolled: tuple[Path, str]) -> None:
    config, user = enrolled
    host = SystemdHost("ravan-agent", manager.units)
    host.install(unit_settings(config, load_config(config), ""))
    text = host.path.read_text()
    assert lines_of(text, "User") == [user]
    assert host.path.stat().st_mode & 0o777 == 0o644
    assert manager.calls == ["daemon-reload", "enable ravan-agent.service", "restart ravan-agent.service"]
    state = config.parent / "state"
    assert (state.owner(), state.stat().st_mode & 0o777) == (user, 0o700)
    assert [path.name for path in manager.units.iterdir()] == ["ravan-agent.service"]
    host.install(unit_settings(config, load_config(config), ""))
    assert host.path.read_text() == text
    host.uninstall()
    assert manager.calls[6:] == ["disable --now ravan-agent.service", "daemon-reload"]
    assert not host.path.exists()
    assert (config.parent / "identity").exists()
    with pytest.raises(StateError):
        host.uninstall()


def test_a_unit_of_somebody_else_is_left_alone(manager: Manager, enrolled: tuple[Path, str]) -> None:
    config, _ = enrolled
    host = SystemdHost("ssh", manager.units)
    host.path.write_text("[Unit]\nDescription=not ours\n")
    with pytest.raises(StateError):
        host.install(unit_settings(config, load_config(config), ""))
    with pytest.raises(StateError):
        host.uninstall()
    assert host.path.read_text().startswith("[Unit]")
    assert not manager.asked.exists()


def test_what_systemd_refuses_is_said(manager: Manager, enrolled: tuple[Path, str]) -> None:
    config, _ = enrolled
    manager.answer("Failed to reload daemon: Access denied", code=1)
    with pytest.raises(ResourceError, match="Access denied"):
        SystemdHost("ravan-agent", manager.units).install(unit_settings(config, load_config(config), ""))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make folders root's")
def test_it_does_not_run_as_root_nor_as_who_cannot_read_the_keys(manager: Manager, enrolled: tuple[Path, str]) -> None:
    config, _ = enrolled
    with pytest.raises(StateError, match="belongs to nobody, not to daemon"):
        SystemdHost("ravan-agent", manager.units).install(unit_settings(config, load_config(config), "daemon"))
    shutil.chown(config.parent / "identity", "root")
    with pytest.raises(StateError, match="belongs to root"):
        unit_settings(config, load_config(config), "")
    assert list(manager.units.iterdir()) == []


def test_status_is_what_systemd_says(manager: Manager) -> None:
    manager.answer(
        "LoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=2\n"
        "StatusText=site north: connected; training, round 3, 4 of 10\nStateChangeTimestamp=Fri 2026-11-27 04:00:00 UTC"
    )
    done = CliRunner().invoke(cli, ["service", "status", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (
        0,
        {
            "installed": True,
            "active": True,
            "state": "active (running)",
            "doing": "site north: connected; training, round 3, 4 of 10",
            "restarts": 2,
            "since": "Fri 2026-11-27 04:00:00 UTC",
        },
    )
    manager.answer("LoadState=not-found\nActiveState=inactive\nSubState=dead")
    done = CliRunner().invoke(cli, ["service", "status", "--name", "other"])
    assert (done.exit_code, done.stdout) == (1, "other is not installed.\n")
    manager.answer("what\n=\nNRestarts=x")
    assert SystemdHost("ravan-agent").status().state == "unknown (unknown)"


def test_print_shows_the_unit_and_changes_nothing(manager: Manager, enrolled: tuple[Path, str]) -> None:
    config, user = enrolled
    before = sorted(config.parent.rglob("*"))
    done = CliRunner().invoke(cli, ["service", "install", "--print", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert lines_of(done.stdout, "User") == [user]
    assert str(config) in lines_of(done.stdout, "ExecStart")[0]
    assert sorted(config.parent.rglob("*")) == before
    assert not manager.asked.exists()
