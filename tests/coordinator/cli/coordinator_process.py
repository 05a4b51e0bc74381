"""A real `ravan-coordinator` in processes of its own, on ports that the system chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANY_PORT = {
    "RAVAN_SERVER_LISTEN": "127.0.0.1",
    "RAVAN_SERVER_ENROLMENT_PORT": "0",
    "RAVAN_SERVER_SITE_PORT": "0",
    "RAVAN_SERVER_HTTP_PORT": "0",
}
PROGRAM = (sys.executable, "-m", "coordinator")
STOP_S = 30


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env={**os.environ, **ANY_PORT, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Headquarters:
    """A data folder with its daemon, perhaps running."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "coordinator.toml"

    @property
    def ports(self) -> dict[str, int]:
        content: dict[str, int] = json.loads((self.folder / "daemon.json").read_text())
        return content

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(*arguments, "--config", self.config)

    def read(self, *arguments: str | Path) -> Any:
        """Run a reading command and return its JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def found(folder: Path) -> Headquarters:
    done = run("init", folder, "--host", "localhost")
    assert done.returncode == 0, done.stderr
    return Headquarters(folder)


@contextmanager
def serving(headquarters: Headquarters) -> Iterator[str]:
    """Run the daemon; give its ready line, and stop it by SIGTERM, which must end it well."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--config", str(headquarters.config)],
        env={**os.environ, **ANY_PORT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready, process.communicate()[1]
        yield ready
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=STOP_S)
        assert process.returncode == 0, log
        assert "Traceback" not in log
    finally:
        process.kill()
        process.communicate()
