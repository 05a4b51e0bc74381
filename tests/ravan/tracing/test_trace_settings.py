"""The table [tracing]: where spans may be sent to, and that nothing is loaded while it is off."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.config import CoordinatorFile
from edge_agent.config import AgentFile, load_config
from ravan.configuration import read_text
from ravan.errors import ConfigError
from ravan.rpc.otlp import check_tracing, open_exporter
from ravan.tracing.settings import TracingTable


@pytest.mark.parametrize(
    ("endpoint", "address", "encrypted"),
    [
        ("https://collector.example:4317", ("collector.example", 4317), True),
        ("https://collector.example", ("collector.example", 4317), True),
        ("https://[2001:db8::1]:99/", ("2001:db8::1", 99), True),
        ("http://127.0.0.1:4318", ("127.0.0.1", 4318), False),
        ("http://[::1]", ("::1", 4317), False),
        ("http://localhost:1", ("localhost", 1), False),
    ],
)
def test_addresses_that_are_taken(endpoint: str, address: tuple[str, int], encrypted: bool) -> None:
    table = read_text(AgentFile, f'[tracing]\nendpoint = "{endpoint}"', source="test").tracing
    assert (table.address, table.encrypted) == (address, encrypted)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://collector.example:4317", "without TLS"),
        ("http://10.0.0.7:4317", "without TLS"),
        ("http://localhost.example:4317", "without TLS"),
        ("http://0.0.0.0:4317", "without TLS"),
        ("collector.example:4317", "https://HOST:PORT"),
        ("grpc://collector.example:4317", "https://HOST:PORT"),
        ("https://", "https://HOST:PORT"),
        ("https://collector.example:70000", "https://HOST:PORT"),
        ("https://collector.example:0", "https://HOST:PORT"),
        ("https://user:word@collector.example:4317", "https://HOST:PORT"),
        ("https://collector.example:4317/v1/traces", "https://HOST:PORT"),
        ("https://[collector", "https://HOST:PORT"),
    ],
)
@pytest.mark.parametrize(("file", "before"), [(AgentFile, ""), (CoordinatorFile, '[server]\nhosts = ["hq"]\n')])
def test_addresses_that_are_refused(
    endpoint: str, why: str, file: type[AgentFile | CoordinatorFile], before: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape("tracing.endpoint")) as caught:
        read_text(file, f'{before}[tracing]\nendpoint = "{endpoint}"', source="test")
    assert why in str(caught.value)


def test_the_authority_lies_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[tracing]\nendpoint = "https://c.example"\nca_file = "ca.pem"\n', encoding="utf-8")
    table = load_config(path, {}).tracing
    assert Path(table.ca_file) == tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="ca_file"):
        check_tracing(table)


def test_off_by_default() -> None:
    assert open_exporter(TracingTable(), "ravan-agent", "plant-a") is None


def run_python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with these folders before all others."""
    first = "".join(f"sys.path.insert(0, {str(each)!r}); " for each in path)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {first}{code}"], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("program", ["coordinator.daemon.app", "edge_agent.app", "edge_agent.worker.process"])
def test_a_daemon_that_traces_nothing_loads_nothing_of_opentelemetry(program: str) -> None:
    opened = "from ravan.rpc.otlp import open_exporter; from ravan.tracing.settings import TracingTable; "
    code = f"import {program}; {opened}assert open_exporter(TracingTable(), 'a', 'b') is None; "
    done = run_python(code + "print([name for name in sys.modules if name.startswith('opentelemetry')])")
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_without_the_package_the_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    missing = tmp_path / "opentelemetry"
    missing.mkdir()
    (missing / "__init__.py").write_text("raise ImportError('there is none')", encoding="utf-8")
    config = tmp_path / "agent.toml"
    config.write_text('[tracing]\nendpoint = "http://127.0.0.1:4317"\n', encoding="utf-8")
    arguments = ["ravan-agent", "config", "check", "--config", str(config)]
    code = f"from edge_agent.cli import main; sys.argv = {arguments!r}; main()"
    done = run_python(code, tmp_path)
    assert done.returncode == 2
    assert "not installed" in done.stderr
    assert "pip install 'ravan[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr
