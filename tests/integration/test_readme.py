"""The commands of the README and of the pages under `docs/`, as written, from a wheel installed outside the checkout.

Those that cannot be typed here are parsed in `tests/docs/test_fenced_blocks.py`.
"""

import csv
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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from shell_blocks import ROOT, RUNNING, Block, Handling, commands_in, list_pages

from deploy.examples.__main__ import lay_out

PORTS = ("9490", "9467")
"""What the pages say for Prometheus and for a plant's model; others may use them on this machine."""
ROWS_LEFT = 60


def typed_from(page: str) -> list[Block]:
    """Return the blocks of a page that are run here; those of Prometheus where it is installed."""
    there = shutil.which("prometheus") is not None
    blocks = [block for block in commands_in(page) if block.handling in RUNNING]
    return [block for block in blocks if there or not re.match("prometheus|promtool", block.text)]


PAGES = [page for page in list_pages() if page.startswith("docs/") and typed_from(page)]


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
        self.ports = {port: str(free_port()) for port in PORTS}
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
            ["bash", "-euo", "pipefail", "-c", self._on_this_machine(commands)],
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
                ["bash", "-c", f"exec {self._on_this_machine(command).strip()}"],
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

    def _on_this_machine(self, commands: str) -> str:
        for told, free in self.ports.items():
            commands = commands.replace(told, free)
        return commands

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


@dataclass(frozen=True)
class Walk:
    """The README, typed to its end; coordinator, plants and Prometheus run on."""

    operator: Operator
    outputs: dict[str, str]
    """What each block wrote."""

    def output_of(self, words: str) -> str:
        return next(output for text, output in self.outputs.items() if words in text)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("readme")
    lay_out("texts", folder / "example")
    with operator_in(folder, programs) as operator:
        _lay_out_prometheus(folder, operator.http_port)
        yield Walk(operator, {block.text: _type(operator, block) for block in typed_from("README.md")})


def _lay_out_prometheus(folder: Path, http_port: int) -> None:
    """Put down what a checkout has, for the port of this coordinator; and look each second, as the job is short."""
    shutil.copytree(ROOT / "deploy" / "prometheus", folder / "deploy" / "prometheus")
    path = folder / "deploy" / "prometheus" / "prometheus.yml"
    path.write_text(path.read_text().replace("9464", str(http_port)).replace("interval: 15s", "interval: 1s"))


def _type(operator: Operator, block: Block) -> str:
    if block.handling is Handling.RUN:
        return operator.type(block.text)
    operator.leave_running(block.text)
    return ""


@pytest.mark.timeout(600)
def test_an_operator_gets_from_nothing_to_an_adapter_with_the_readme_alone(walk: Walk) -> None:
    files = {path.name for path in (walk.operator.folder / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    assert "completed" in walk.output_of("--watch").lower()
    header, row = walk.output_of("ravan-agent predict").splitlines()
    assert header.startswith("row,label,p(")
    assert row.split(",")[1] in header


@pytest.mark.timeout(600)
def test_the_readmes_prometheus_knows_of_the_rounds(walk: Walk) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus (Debian package prometheus) is not installed")
    found = re.search(r"outcome=\"committed\"\} => (\d+) @", walk.output_of("promtool query"))
    assert found is not None
    assert int(found[1]) >= 1
    # Nothing lies beside what the commands name.
    assert (walk.operator.folder / "prometheus-data" / "wal").is_dir()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run(walk: Walk, page: str) -> None:
    blocks = typed_from(page)
    with operator_at_a_plant(walk.operator) as operator:
        outputs = [_type(operator, block) for block in blocks]
    assert len(outputs) == len(blocks)


@contextmanager
def operator_at_a_plant(headquarters: Operator) -> Iterator[Operator]:
    """Sit down in a plant's folder, from where headquarters' configuration is known as well."""
    folder = headquarters.folder / "north"
    configuration = folder / "agent.toml"
    if not (folder / "rows.csv").exists():
        # Few rows, so that training takes seconds; all of one label, so that this plant's own heads are worth keeping.
        with (headquarters.folder / "example" / "north.csv").open(newline="") as source:
            rows = [row | {"subsystem": "lube"} for row in islice(csv.DictReader(source), ROWS_LEFT)]
        for name, count in (("rows.csv", ROWS_LEFT), ("new-orders.csv", 3)):
            with (folder / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows[:count])
        fewer = re.sub(r"^path = .*$", f'path = "{folder / "rows.csv"}"', configuration.read_text(), flags=re.MULTILINE)
        configuration.write_text(f"{fewer}validation_share = 0.5\n")
    with operator_in(folder, Path(headquarters.variables["PATH"].split(":")[0])) as operator:
        operator.http_port, operator.ports = headquarters.http_port, headquarters.ports
        operator.variables = headquarters.variables | {"RAVAN_CONFIG": str(headquarters.folder / "hq/coordinator.toml")}
        yield operator


def test_the_readme_shows_every_step_of_the_path() -> None:
    typed = "\n".join(block.text for block in typed_from("README.md"))
    for command in ("init", "serve", "token create", "enroll", "run --config", "model add", "job submit", "job show"):
        assert command in typed
    assert shutil.which("bash") is not None
