"""Every trouble of the machine is found, named, and has a remedy."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from edge_agent.config import AgentFile, AgentTable
from edge_agent.finding import Finding
from edge_agent.hardware.checkup import LEAST_AVAILABLE_BYTES, LEAST_DISK_BYTES, check_machine
from edge_agent.hardware.limits import LimitReader

Usage = namedtuple("Usage", "free")


def config(folder: Path, ram_limit_mb: int = 0) -> AgentFile:
    table = AgentTable(
        identity_dir=folder / "identity",
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        ram_limit_mb=ram_limit_mb,
    )
    return AgentFile(agent=table)


def found(settings: AgentFile) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_machine(settings)}


def test_a_sound_machine_has_no_remedy(tmp_path: Path) -> None:
    findings = found(config(tmp_path / "site"))
    assert list(findings) == ["folders", "disk", "memory"]
    assert {finding.remedy for finding in findings.values()} == {""}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    real = tempfile.TemporaryFile

    def refuse(*, dir: Path) -> object:
        if dir == state:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr("edge_agent.hardware.checkup.tempfile.TemporaryFile", refuse)
    finding = found(config(tmp_path))["folders"]
    assert not finding.good
    assert finding.sentence == f"{state} cannot be written: read-only file system"
    assert finding.remedy


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.storage.share.shutil.disk_usage", lambda _: Usage(free=LEAST_DISK_BYTES - 1))
    finding = found(config(tmp_path))["disk"]
    assert (finding.good, bool(finding.remedy)) == (False, True)
    monkeypatch.setattr("edge_agent.storage.share.shutil.disk_usage", lambda _: Usage(free=LEAST_DISK_BYTES))
    assert found(config(tmp_path))["disk"].good


@pytest.mark.parametrize(("available", "good"), [(LEAST_AVAILABLE_BYTES - 1, False), (LEAST_AVAILABLE_BYTES, True)])
def test_memory_that_others_have_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, good: bool
) -> None:
    monkeypatch.setattr(LimitReader, "available_bytes", lambda _: available)
    finding = found(config(tmp_path))["memory"]
    assert (finding.good, bool(finding.remedy)) == (good, not good)


def test_a_limit_below_what_the_agent_needs(tmp_path: Path) -> None:
    finding = found(config(tmp_path, ram_limit_mb=100))["memory"]
    assert not finding.good
    assert "100 MiB (limited by config)" in finding.sentence
    assert "500 MiB" in finding.remedy


def test_available_memory_is_the_kernels_figure(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  4096 kB\nMemFree:  1 kB\nMemAvailable:  2048 kB\n")
    limits = LimitReader(proc=tmp_path)
    assert (limits.total_bytes(), limits.available_bytes()) == (4096 << 10, 2048 << 10)
