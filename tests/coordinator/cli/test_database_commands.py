"""`db backup` and `db restore` as an operator uses them, with everything in one folder and with both servers."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from coordinator_process import Headquarters, found, run, serving
from object_server import ObjectServer, objects
from postgres_server import PostgresServer, postgres

from coordinator.backup.restoration import Restored
from coordinator.cli.database import _describe

__all__ = ["objects", "postgres"]


@pytest.fixture(params=["folder", "servers"])
def headquarters(request: pytest.FixtureRequest, tmp_path: Path) -> Headquarters:
    made = found(tmp_path / "hq")
    if request.param == "servers":
        server: PostgresServer = request.getfixturevalue("postgres")
        store: ObjectServer = request.getfixturevalue("objects")
        address, bucket = server.new_database(), store.new_bucket()
        (made.folder / "password").write_text(address.password)
        (made.folder / "secret").write_text(bucket.secret_access_key)
        made.config.write_text(
            '[server]\nhosts = ["localhost"]\n'
            f'[database]\nurl = "{address.url}"\npassword_file = "password"\n'
            f'[objects]\nbucket = "{bucket.name}"\nendpoint = "{bucket.endpoint}"\n'
            f'access_key_id = "{bucket.access_key_id}"\nsecret_file = "secret"\n'
        )
    return made


def write_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    header = json.dumps({"bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


def metrics(headquarters: Headquarters) -> dict[str, float]:
    url = f"http://127.0.0.1:{headquarters.ports['http_port']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_a_backup_of_a_running_coordinator_comes_back(headquarters: Headquarters, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    with serving(headquarters):
        added = headquarters.run("model", "add", write_model(tmp_path / "model"), "--name", "first")
        assert added.returncode == 0, added.stderr
        made = headquarters.run("db", "backup", file)
        assert made.returncode == 0, made.stderr
        assert str(file) in made.stdout
        headquarters.run("model", "add", tmp_path / "model", "--name", "second")
        disk = metrics(headquarters)
        assert disk['ravan_disk_bytes{kind="database"}'] > 10_000
        assert disk['ravan_disk_bytes{kind="blobs"}'] + disk['ravan_disk_bytes{kind="cache"}'] > 80
        refused = headquarters.run("db", "restore", file, "--replace")
        assert (refused.returncode, "Stop that one first" in refused.stderr) == (1, True)
    refused = headquarters.run("db", "restore", file)
    assert (refused.returncode, "--replace" in refused.stderr) == (1, True)
    restored = headquarters.run("db", "restore", file, "--replace")
    assert restored.returncode == 0, restored.stderr
    assert "0 sites, 0 jobs" in restored.stdout
    with serving(headquarters):
        assert [model["name"] for model in headquarters.read("model", "list")] == ["first"]


@pytest.mark.parametrize("headquarters", ["servers"], indirect=True)
def test_a_server_s_password_is_in_no_output(headquarters: Headquarters) -> None:
    secrets = [path.read_text() for path in headquarters.folder.glob("*") if path.name in {"password", "secret"}]
    outputs = [headquarters.run(*arguments) for arguments in (("config", "check"), ("db", "upgrade"))]
    (headquarters.folder / "password").write_text("wrong")
    outputs.append(headquarters.run("db", "upgrade"))
    said = "".join(output.stdout + output.stderr for output in outputs)
    assert [output.returncode for output in outputs[:2]] == [0, 0]
    assert outputs[2].returncode == 1
    assert len(secrets) == 2
    assert not any(secret in said for secret in [*secrets, "wrong"])


def test_the_daemon_loads_no_driver_that_its_configuration_does_not_ask_for() -> None:
    code = "import sys, coordinator.daemon.app; print({'psycopg', 'obstore', 'alembic', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_file_that_is_no_backup_ends_with_a_sentence(tmp_path: Path) -> None:
    idle = found(tmp_path / "hq")
    done = idle.run("db", "restore", idle.config)
    assert done.returncode == 1
    assert "is no backup of a coordinator" in done.stderr
    assert run("db", "restore", "absent.tar", "--config", idle.config).returncode == 1


def test_what_the_operator_has_to_do_is_said() -> None:
    quiet = Restored(taken_at=0.0, sites=1, jobs=1, going_on=(), incomplete=(), knew_fleet=True)
    said = " ".join(_describe(quiet))
    assert "new run id" not in said
    assert "token create" in said
    loud = Restored(taken_at=0.0, sites=1, jobs=2, going_on=("a", "b"), incomplete=("b",), knew_fleet=False)
    said = " ".join(_describe(loud))
    assert "new run id: a, b" in said
    assert "blobs are missing: b." in said
    assert "revoke them once more" in said
