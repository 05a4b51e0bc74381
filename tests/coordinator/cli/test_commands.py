"""The command line as an operator uses it: real processes, real files, exit codes and sentences."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from coordinator_process import PROGRAM, Headquarters, found, run, serving

from ravan.identity.join import decode_invitation

READY = re.compile(
    r"ravan-coordinator \d+\.\d+\.\d+ ready: enrolment 127\.0\.0\.1:(\d+), "
    r"agents 127\.0\.0\.1:(\d+), http http://127\.0\.0\.1:(\d+)\n"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Headquarters]:
    headquarters = found(tmp_path_factory.mktemp("hq") / "data")
    with serving(headquarters):
        yield headquarters


@pytest.fixture
def idle(tmp_path: Path) -> Headquarters:
    return found(tmp_path / "data")


def write_model(folder: Path) -> Path:
    """Write a model of one tensor of 3 numbers: safetensors is a length, a JSON header and the numbers."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    header = json.dumps({"bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode()
    content = struct.pack("<Q", len(header)) + header + struct.pack("<3f", 1, 2, 3)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def fetch(headquarters: Headquarters, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{headquarters.ports['http_port']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_help_and_version() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    commands = {"init", "serve", "config", "token", "site", "model", "job", "export", "db"}
    assert commands <= {line.split()[0] for line in helped.stdout.splitlines() if line.startswith("  ")}
    versioned = run("--version")
    assert re.fullmatch(r"ravan-coordinator \d+\.\d+\.\d+\n", versioned.stdout)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, coordinator.cli\n"
        "heavy = {'grpc', 'pydantic', 'sqlalchemy', 'numpy', 'torch', 'rich', 'google.protobuf', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_init_makes_a_private_folder_and_says_what_next(tmp_path: Path) -> None:
    folder = tmp_path / "hq"
    done = run("init", folder, "--host", "hq.example", "--host", "10.1.2.3")
    assert done.returncode == 0
    assert f"ravan-coordinator serve --config {folder / 'coordinator.toml'}" in done.stdout
    assert 'hosts = ["hq.example", "10.1.2.3"]' in (folder / "coordinator.toml").read_text()
    keys = sorted(path for path in (folder / "pki").iterdir() if path.suffix == ".key")
    assert len(keys) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert run("config", "check", "--config", folder / "coordinator.toml").returncode == 0


def test_init_never_overwrites(idle: Headquarters) -> None:
    before = (idle.folder / "pki" / "ca.crt").read_bytes()
    done = run("init", idle.folder, "--host", "other")
    assert done.returncode == 1
    assert "already holds a coordinator" in done.stderr
    assert (idle.folder / "pki" / "ca.crt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("init", "x"), "--host"),
        (("token", "create", "--site", "a", "--ttl", "soon"), "write 90s, 30m, 24h or 7d"),
        (("job", "list", "--server", "hq.example:8443"), "--server also needs --cert, --key, --ca"),
        (("serve", "--config", "missing.toml"), "ravan-coordinator init DIR --host NAME"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_key_names_the_nearest(idle: Headquarters) -> None:
    idle.config.write_text('[server]\nhosts = ["a"]\nsite_prot = 1\n')
    for command in (("config", "check"), ("serve",)):
        done = idle.run(*command)
        assert done.returncode == 2
        assert "`server.site_prot` is not a known key" in done.stderr
        assert "Did you mean `site_port`?" in done.stderr


def test_ready_line_and_orderly_end(idle: Headquarters) -> None:
    with serving(idle) as line:
        ready = READY.fullmatch(line)
        assert ready is not None
        ports = idle.ports
        named = (ports["enrolment_port"], ports["site_port"], ports["http_port"])
        assert tuple(map(int, ready.groups())) == named
        assert fetch(idle, "/readyz")[0] == 200
        assert fetch(idle, "/healthz")[0] == 200
        assert f"127.0.0.1:{ports['site_port']}" in fetch(idle, "/status")[1]
    assert not (idle.folder / "daemon.json").exists()
    with serving(idle):
        assert idle.read("site", "list") == []


def test_second_daemon_on_the_folder_is_refused(running: Headquarters) -> None:
    done = running.run("serve")
    assert done.returncode == 1
    assert f"works on the data folder {running.folder}" in done.stderr
    assert str(running.ports["pid"]) in done.stderr
    upgraded = running.run("db", "upgrade")
    assert upgraded.returncode == 1


def test_a_worker_runs_beside_the_daemon_and_ends_well_when_told_to(running: Headquarters) -> None:
    worker = subprocess.Popen(
        [*PROGRAM, "worker", "--config", str(running.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    try:
        assert re.fullmatch(r"ravan-coordinator \S+ worker \S+ ready\n", worker.stdout.readline())
        refused = running.run("db", "upgrade")
        assert refused.returncode == 1
        worker.send_signal(signal.SIGTERM)
        rest, log = worker.communicate(timeout=30)
        assert (worker.returncode, log) == (0, "")
        assert rest.startswith("worker ")
    finally:
        worker.kill()
        worker.communicate()


def test_what_changes_the_database_is_refused_while_a_worker_runs(idle: Headquarters) -> None:
    worker = subprocess.Popen([*PROGRAM, "worker", "--config", str(idle.config)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    try:
        assert "ready" in worker.stdout.readline()
        refused = idle.run("db", "upgrade")
        assert refused.returncode == 1
        assert "Workers use the data folder" in refused.stderr
    finally:
        worker.kill()
        worker.communicate()
    assert idle.run("db", "upgrade").returncode == 0


def test_a_worker_of_no_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text('[server]\nhosts = ["localhost"]\n')
    refused = run("worker", "--config", tmp_path / "coordinator.toml")
    assert refused.returncode == 2
    assert "is not a coordinator's data folder" in refused.stderr


@pytest.mark.parametrize("key", ["enrolment_port", "site_port", "http_port"])
def test_port_in_use_names_port_and_key(idle: Headquarters, key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--config", idle.config, **{f"RAVAN_SERVER_{key.upper()}": str(port)})
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert f"`server.{key}`" in done.stderr
    assert "Traceback" not in done.stderr


def test_database_upgrade_of_an_idle_folder(idle: Headquarters) -> None:
    assert idle.run("db", "upgrade").returncode == 0


def test_daemon_that_does_not_run_is_named_with_its_command(idle: Headquarters) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run("site", "list", "--config", idle.config, RAVAN_SERVER_SITE_PORT=str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be reached" in done.stderr
    assert f"ravan-coordinator serve --config {idle.config}" in done.stderr


def test_token_is_one_join_string_with_the_real_ports(running: Headquarters) -> None:
    done = running.run("token", "create", "--site", "plant-1", "--ttl", "30m")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    invitation = decode_invitation(done.stdout)
    assert invitation.address.host == "localhost"
    assert invitation.address.enrolment_port == running.ports["enrolment_port"]
    assert invitation.address.site_port == running.ports["site_port"]
    assert {"name": "plant-1", "state": "invited"}.items() <= running.read("site", "show", "plant-1").items()
    assert "plant-1" in running.run("site", "list").stdout


def test_bad_site_name_and_unknown_site(running: Headquarters) -> None:
    bad = running.run("token", "create", "--site", "Plant 1")
    assert bad.returncode == 2
    assert "cannot be the name of a site" in bad.stderr
    unknown = running.run("site", "revoke", "nobody")
    assert unknown.returncode == 1
    as_json = running.run("site", "show", "nobody", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stderr)["reason"] == "NOT_FOUND"


def test_configuration_by_environment(running: Headquarters) -> None:
    done = run("site", "list", "--json", RAVAN_CONFIG=str(running.config))
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout), list)


def test_from_another_machine_with_an_operator_certificate(running: Headquarters) -> None:
    pki = running.folder / "pki"
    identity = ("--cert", pki / "admin.crt", "--key", pki / "admin.key", "--ca", pki / "ca.crt")
    server = f"localhost:{running.ports['site_port']}"
    assert run("job", "list", "--json", "--server", server, *identity).stdout == "[]\n"


def test_model_is_taken_in_once(running: Headquarters, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    done = running.run("model", "add", folder, "--name", "tiny")
    assert done.returncode == 0, done.stderr
    assert "tiny: bert, 3 parameters, 2 files." in done.stdout
    assert "Left behind: pytorch_model.bin" in done.stderr
    [model] = running.read("model", "list")
    assert [file["path"] for file in model["files"]] == ["config.json", "model.safetensors"]
    assert running.run("model", "add", folder, "--name", "tiny").returncode == 0
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    refused = running.run("model", "add", folder, "--name", "broken")
    assert refused.returncode == 1
    assert [each["name"] for each in running.read("model", "list")] == ["tiny"]


def test_job_sample_can_be_submitted_and_names_what_is_missing(running: Headquarters, tmp_path: Path) -> None:
    sample = run("job", "sample")
    assert sample.returncode == 0
    job = tmp_path / "job.toml"
    job.write_text(sample.stdout)
    no_data = running.run("job", "submit", job)
    assert no_data.returncode == 1
    assert "held-out file" in no_data.stderr
    data = re.search(r'^data = "([^"]+\.(?:csv|jsonl))"', sample.stdout, re.MULTILINE)
    assert data is not None
    (tmp_path / data[1]).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / data[1]).write_text("text,label\nleak,pump\n")
    no_model = running.run("job", "submit", job)
    assert no_model.returncode == 1
    assert "model" in no_model.stderr
    assert "Traceback" not in no_model.stderr
    assert running.read("job", "list") == []


def test_wrong_key_in_a_job_file(running: Headquarters, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(run("job", "sample").stdout.replace("[training]", "[training]\nstep = 1"))
    done = running.run("job", "submit", job)
    assert done.returncode == 2
    assert "`training.step` is not a known key" in done.stderr
    assert "Did you mean `steps`?" in done.stderr


def test_unknown_jobs(running: Headquarters, tmp_path: Path) -> None:
    for command in ("show", "pause", "resume", "stop"):
        done = running.run("job", command, "nothing")
        assert (command, done.returncode) == (command, 1)
        assert "no job" in done.stderr
    watched = running.run("job", "show", "nothing", "--watch")
    assert watched.returncode == 1
    assert running.run("export", "nothing", "--out", tmp_path / "out").returncode == 1


def test_metrics_count_refusals(running: Headquarters) -> None:
    def refusals() -> float:
        found = re.search(r'ravan_refusals_total\{reason="NOT_FOUND"\} (\S+)', fetch(running, "/metrics")[1])
        assert found is not None
        return float(found[1])

    before = refusals()
    running.run("job", "show", "nothing")
    assert refusals() == before + 1
