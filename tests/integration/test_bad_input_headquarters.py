"""Bad input at headquarters, tried on real processes: job files, models, a full disk, a coordinator that is down."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounted_disk import fill, mounted_disk
from tiny_fleet import Fleet, assert_said, await_true, run, running_fleet

from simulation.tiny_text_model import write_tiny_model

SITES = ("north", "south", "west")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A coordinator with the tiny model and three enrolled sites that do not run."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as made:
        for name in SITES:
            made.enrol(name)
        done = made.add_model()
        assert done.returncode == 0, done.stderr
        yield made


@pytest.mark.parametrize(
    ("changes", "code", "sentence", "next_step"),
    [
        ({"training__step": 5}, 2, "`training.step` is not a known key", "Did you mean `steps`?"),
        ({"training__steps": "many"}, 2, "`training.steps` should be a whole number", "Correct `training.steps`"),
        ({"model__name": "absent"}, 1, "There is no base model 'absent'", "There are: tiny."),
        ({"adapter__targets": ["quary"]}, 2, "has no linear layer quary", "Set [adapter] targets to some of these"),
        ({"adapter__rank": 9}, 2, "2 orthogonal heads of rank 9 need 18 directions", "rank to at most 8"),
        (
            {"secure_aggregation__bundle_threshold": 4},
            2,
            "can never be reached: 3 sites are enrolled",
            "This fleet can hold 3, with no site absent.",
        ),
        ({"evaluation__data": "absent.csv"}, 1, "absent.csv of the job does not exist", "relative to the job file"),
        ({"training__labels": ["pump", "engine", "cabin"]}, 1, "has the label 'cab'", "Did you mean 'cabin'?"),
    ],
)
def test_a_job_that_cannot_work_is_refused_before_anything_runs(
    fleet: Fleet, changes: dict[str, object], code: int, sentence: str, next_step: str
) -> None:
    assert_said(fleet.submit(**changes), code, sentence, next_step)
    assert json.loads(fleet.hq("job", "list", "--json").stdout) == []


def _only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}))


def _cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("spoil", "code", "sentence"),
    [
        (shutil.rmtree, 2, "does not exist"),
        (_only_pickles, 1, "convert them to safetensors"),
        (_own_code, 1, "asks for code of the model's own (auto_map)"),
        (_cut_off, 1, "it is cut off, or longer than its header says"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(fleet: Fleet, tmp_path: Path, spoil, code: int, sentence: str) -> None:  # type: ignore[no-untyped-def]
    folder = write_tiny_model(tmp_path / "model")
    spoil(folder)
    assert_said(fleet.hq("model", "add", folder, "--name", "broken"), code, sentence)
    assert [model["name"] for model in json.loads(fleet.hq("model", "list", "--json").stdout)] == ["tiny"]


def committed(fleet: Fleet) -> int:
    rounds = json.loads(fleet.hq("job", "show", "tiny", "--json").stdout)["rounds"]
    return sum(bool(each.get("state_digest")) for each in rounds)


def test_a_full_disk_refuses_pauses_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVAN_LIMITS_DISK_RESERVE_MB", "0")
    disk = tmp_path / "hq" / "coordinator"
    with mounted_disk(disk, "8m"), running_fleet(tmp_path) as fleet:
        filler = fill(disk)
        assert_said(fleet.add_model(), 1, f"The disk of {disk}", "is full", "Free space or enlarge the disk")
        assert_said(fleet.hq("token", "create", "--site", "north"), 1, "is full", "nothing that was stored is lost")
        assert fleet.hq("site", "list").returncode == 0
        filler.unlink()
        assert fleet.add_model().returncode == 0
        for name in SITES:
            fleet.enrol(name)
            fleet.start(name)
        assert fleet.submit(job__rounds=500, round__phase_deadline_s=8.0).returncode == 0
        await_true(lambda: committed(fleet), "a version")
        filler = fill(disk)
        picture = fleet.await_job("paused", "is full")
        assert "Then `job resume`." in picture
        before = committed(fleet)
        filler.unlink()
        assert fleet.hq("job", "resume", "tiny").returncode == 0
        await_true(lambda: committed(fleet) > before, "a further version")
        assert all(agent.poll() is None for agent in fleet.agents.values())
        assert "Traceback" not in fleet.plant.log("coordinator").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("token", "create", "--site", "new"),
        ("site", "list"),
        ("job", "show", "tiny", "--watch"),
        ("export", "tiny", "--out", "out"),
    ],
)
def test_commands_say_that_the_coordinator_does_not_run(fleet: Fleet, tmp_path: Path, command: tuple[str, ...]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        done = run("coordinator", *command, "--config", fleet.plant.config, RAVAN_SERVER_SITE_PORT=port)
    assert_said(
        done, 1, f"127.0.0.1:{port} cannot be reached", f"ravan-coordinator serve --config {fleet.plant.config}"
    )


def test_an_agent_waits_for_the_coordinator_and_connects_when_it_comes(tmp_path: Path) -> None:
    with running_fleet(tmp_path) as fleet:
        fleet.enrol("north")
        fleet.plant.stop()
        fleet.start("north")
        await_true(lambda: "cannot be reached." in fleet.log("north"), "the agent's sentence")
        fleet.plant.start_coordinator()
        await_true(lambda: '"connected"' in fleet.log("north"), "the connection")
        assert "Traceback" not in fleet.log("north")
