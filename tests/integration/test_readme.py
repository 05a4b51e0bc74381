"""The README's commands, as written, from a wheel installed outside the checkout."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy.examples.__main__ import lay_out

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh ?(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read_blocks() -> list[tuple[str, str]]:
    """Return (kind, commands) of every shell block that an operator types after the installation."""
    blocks = [(kind, text) for kind, text in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))]
    return [(kind, text) for kind, text in blocks if kind in ("", "background")]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, alone, beside this environment's libraries; return the folder of its programs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    site = folder / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wheel = next(folder.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # Libraries come from here. A folder named in a .pth file is searched, but the .pth files in it are not read,
    # so the editable install of this environment stays out.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = subprocess.run(
        [python, "-c", "import ravan; print(ravan.__file__)"], check=True, capture_output=True, text=True, cwd=folder
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    return python.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Operator:
    """Types the blocks one after the other into shells of one folder."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.http_port = free_port()
        self.background: list[subprocess.Popen[bytes]] = []
        self.variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAVAN_", "PYTHON"))},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "RAVAN_CONFIG": "hq/coordinator.toml",
            "RAVAN_SERVER_LISTEN": "127.0.0.1",
            "RAVAN_SERVER_ENROLMENT_PORT": str(free_port()),
            "RAVAN_SERVER_SITE_PORT": str(free_port()),
            "RAVAN_SERVER_HTTP_PORT": str(self.http_port),
        }

    def type(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def leave_running(self, command: str) -> None:
        log = (self.folder / f"background-{len(self.background)}.log").open("wb")
        self.background.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {command.strip()}"],
                cwd=self.folder,
                env=self.variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        log.close()
        if "serve" in command:
            self.await_ready(self.background[-1])

    def await_ready(self, daemon: subprocess.Popen[bytes]) -> None:
        for _ in range(150):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=1):
                return
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=0.2)
                break
        raise AssertionError(f"the coordinator did not get ready\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in sorted(self.folder.glob("background-*.log")))

    def stop(self) -> None:
        for process in reversed(self.background):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.background:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def operator_in(folder: Path, programs: Path) -> Iterator[Operator]:
    operator = Operator(folder, programs)
    try:
        yield operator
    finally:
        operator.stop()


@pytest.mark.timeout(600)
def test_an_operator_gets_from_nothing_to_an_adapter_with_the_readme_alone(tmp_path: Path, programs: Path) -> None:
    lay_out("texts", tmp_path / "example")
    outputs: list[str] = []
    with operator_in(tmp_path, programs) as operator:
        for kind, commands in read_blocks():
            if kind == "background":
                operator.leave_running(commands)
            else:
                outputs.append(operator.type(commands))
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    watched, _, predicted = outputs[-3:]
    assert "completed" in watched.lower()
    header, row = predicted.splitlines()
    assert header.startswith("row,label,p(")
    assert row.split(",")[1] in header


def test_the_readme_shows_every_step_of_the_path() -> None:
    typed = "\n".join(text for _, text in read_blocks())
    for command in ("init", "serve", "token create", "enroll", "run --config", "model add", "job submit", "job show"):
        assert command in typed
    assert shutil.which("bash") is not None
