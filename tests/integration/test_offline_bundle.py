"""A bundle, installed without a network into an environment of its own: its agents enrol, train and upload a round."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_fleet import QUIET, Fleet, running_fleet
from tiny_jobs import write_rows

from deploy.bundle.__main__ import cli
from simulation.tiny_text_model import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TORCH = "torch==2.13.0"
SITES = ("north", "south", "west")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build, copy and install; return where the programs are."""
    folder = tmp_path_factory.mktemp("bundle")
    key, model = folder / "bundle.key", write_tiny_model(folder / "model")
    assert CliRunner().invoke(cli, ["key", str(key)]).exit_code == 0
    order = ["build", "--out", str(folder / "dist"), "--torch", TORCH, "--key", str(key), "--model", str(model)]
    built = CliRunner().invoke(cli, order, catch_exceptions=False)
    assert built.exit_code == 0, built.output
    (bundle,) = (folder / "dist").iterdir()
    command = ["sh", bundle / "install.sh", "--prefix", folder / "opt", "--python", sys.executable]
    command += ["--public-key", f"{key}.pub"]
    # Where the system lets us, in a network of its own, in which there is not even loopback.
    alone = ["unshare", "--net"] if can_be_alone() else []
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run([*alone, *map(str, command)], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    shutil.rmtree(bundle)
    return folder / "opt"


def can_be_alone() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0


def agent(installed: Path, folder: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (folder / "agents.log").open("ab") as log:
        return subprocess.Popen(
            [str(part) for part in (installed / "venv" / "bin" / "ravan-agent", *arguments)],
            env={**environment, **QUIET},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def join(fleet: Fleet, installed: Path, name: str) -> None:
    folder = fleet.folder / name
    assert agent(installed, fleet.folder, "enroll", fleet.token(name), "--dir", folder).wait(timeout=120) == 0
    shutil.copytree(installed / "cache", folder / "cache")
    with fleet.config(name).open("a", encoding="utf-8") as file:
        file.write(f'\n[data.orders]\npath = "{write_rows(fleet.folder / f"{name}.csv")}"\n')
    fleet.agents[name] = agent(installed, fleet.folder, "run", "--config", fleet.config(name))


def test_agents_from_the_bundle_train_and_upload_a_round(installed: Path, tmp_path: Path) -> None:
    where = [installed / "venv" / "bin" / "python", "-I", "-c", "import edge_agent; print(edge_agent.__file__)"]
    shown = subprocess.run(list(map(str, where)), capture_output=True, text=True, check=True).stdout
    assert Path(shown.strip()).is_relative_to(installed)
    with running_fleet(tmp_path) as fleet:
        for name in SITES:
            join(fleet, installed, name)
        places = blob_inodes(tmp_path / "north")
        assert fleet.add_model().returncode == 0
        submitted = fleet.submit()
        assert submitted.returncode == 0, submitted.stderr
        fleet.await_job("completed", within_s=300)
        audit = [installed / "venv" / "bin" / "ravan-agent", "audit", "--config", fleet.config("north")]
        left = subprocess.run(list(map(str, audit)), capture_output=True, text=True, check=True).stdout
    assert "round 1" in left
    assert "committed, summed with north, south, west" in left
    # The base model that HQ took in is the one that came with the bundle, and was not fetched again.
    model = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "model").iterdir()}
    assert places.keys() == model
    assert places.items() <= blob_inodes(tmp_path / "north").items()


def blob_inodes(site: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (site / "cache" / "blobs").iterdir()}
