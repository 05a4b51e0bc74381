"""Real processes of a small plant: a coordinator, and agents whose jobs on the tiny model take seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tiny_jobs import LABELS, write_rows
from tiny_text_model import write_tiny_model

from deploy.demo.plant import Plant, set_key

Found = TypeVar("Found")
Done = subprocess.CompletedProcess[str]

DEADLINE_S = 90
QUIET = {"OMP_NUM_THREADS": "1", "RAVAN_AGENT_THREADS": "1", "HF_HUB_OFFLINE": "1"}
JOB: dict[str, dict[str, object]] = {
    "job": {"name": "tiny", "rounds": 1},
    "model": {"name": "tiny"},
    "adapter": {"heads": 2, "rank": 3, "targets": ["query", "value"]},
    "training": {
        "data": "orders",
        "labels": list(LABELS),
        "max_length": 16,
        "batch_size": 4,
        "steps": 2,
        "learning_rate": 0.01,
        "dense_learning_rate": 0.01,
    },
    "round": {"training_deadline_s": 60.0, "phase_deadline_s": 20.0},
    "secure_aggregation": {"bundle_threshold": 3},
    "evaluation": {"data": "held-out.csv", "text": "text", "label": "label"},
    "allocation": {"policy": "coverage"},
}


def run(program: str, *arguments: str | Path, **environment: str) -> Done:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def await_true(look: Callable[[], Found | None], what: str, within_s: float = DEADLINE_S) -> Found:
    """Look until there is something; what other processes do cannot be awaited."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {within_s} s in vain for {what}")


def job_text(**changes: object) -> str:
    """Write the tiny job's file; `training__steps=5` changes a key, None leaves it out."""
    tables = {name: dict(table) for name, table in JOB.items()}
    for path, value in changes.items():
        table, _, key = path.partition("__")
        tables[table].pop(key, None)
        if value is not None:
            tables[table][key] = value
    lines = []
    for name, keys in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


@dataclass
class Fleet:
    """A coordinator that runs, and folders of enrolled sites."""

    folder: Path
    plant: Plant
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def hq(self, *arguments: str | Path) -> Done:
        return run("coordinator", *arguments, "--config", self.plant.config)

    def agent(self, name: str, *arguments: str) -> Done:
        return run("edge_agent", *arguments, "--config", self.config(name))

    def config(self, name: str) -> Path:
        return self.folder / name / "agent.toml"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def token(self, name: str, *options: str) -> str:
        done = self.hq("token", "create", "--site", name, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def enrol(self, name: str, data: str = "") -> None:
        """Enrol a site with the tiny job's rows, or with these tables of data."""
        done = run("edge_agent", "enroll", self.token(name), "--dir", self.folder / name)
        assert done.returncode == 0, done.stderr
        rows = write_rows(self.folder / f"{name}.csv")
        with self.config(name).open("a", encoding="utf-8") as file:
            file.write("\n" + (data or f'[data.orders]\npath = "{rows}"\n'))

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.agents[name] = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self.config(name))],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUIET},
            )

    def stop(self, name: str) -> None:
        self.agents[name].terminate()
        self.agents[name].wait(timeout=30)

    def add_model(self) -> Done:
        return self.hq("model", "add", write_tiny_model(self.folder / "model"), "--name", "tiny")

    def submit(self, **changes: object) -> Done:
        write_rows(self.folder / "held-out.csv")
        path = self.folder / "job.toml"
        path.write_text(job_text(**changes), encoding="utf-8")
        return self.hq("job", "submit", path)

    def job(self, name: str = "tiny") -> str:
        """Return what an operator sees of the newest job, without line breaks."""
        return " ".join(self.hq("job", "show", name).stdout.split())

    def await_job(self, *texts: str, name: str = "tiny", within_s: float = DEADLINE_S) -> str:
        """Wait until the picture holds all these texts."""

        def look() -> str | None:
            picture = self.job(name)
            return picture if all(text in picture for text in texts) else None

        return await_true(look, f"{texts} in:\n{self.job(name)}", within_s)


def _choose_ports(plant: Plant) -> None:
    """Make the data folder with ports that no test beside this one uses; the demo's usual ones would meet."""
    done = run("coordinator", "init", plant.coordinator_folder, "--host", "localhost")
    assert done.returncode == 0, done.stderr
    text = set_key(plant.config.read_text(encoding="utf-8"), "listen", '"127.0.0.1"')
    with ExitStack() as held:
        for key in ("enrolment_port", "site_port", "http_port"):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            text = set_key(text, key, probe.getsockname()[1])
    for key, seconds in (("heartbeat_interval_s", 1), ("silence_s", 3)):
        text = set_key(text, key, seconds)
    plant.config.write_text(text, encoding="utf-8")


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    """Start a coordinator, and end it and all agents."""
    plant = Plant(folder / "hq")
    fleet = Fleet(folder, plant)
    try:
        _choose_ports(plant)
        plant.start_coordinator()
        yield fleet
    finally:
        for process in fleet.agents.values():
            process.terminate()
        for process in fleet.agents.values():
            process.wait(timeout=30)
        plant.stop()


def assert_said(done: Done, code: int, *texts: str) -> None:
    """Check that a command ended with this code, this sentence, a next step, and no trace."""
    assert (done.returncode, *(text in done.stderr for text in texts)) == (code, *(True for _ in texts)), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().count("\n") >= 1, done.stderr
