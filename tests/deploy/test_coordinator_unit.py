"""The coordinator's unit is one that systemd takes and finds well locked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "ravan-coordinator.service"
PROGRAM = "/opt/ravan/bin/ravan-coordinator"

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")

MOST_EXPOSED = 15
"""In tenths, as for the agent's unit; more would be a setting lost."""


def analyse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert PROGRAM in text
    unit.write_text(text.replace(f"ExecStart={PROGRAM}", "ExecStart=/bin/true"))
    done = analyse("verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_it_well_locked(tmp_path: Path) -> None:
    arguments = ("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager")
    done = analyse(*arguments, UNIT)
    assert done.returncode == 0, done.stdout
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("CapabilityBoundingSet=", ""))
    assert analyse(*arguments, unit).returncode != 0
