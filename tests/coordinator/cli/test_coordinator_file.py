"""The configuration file that `init` writes, and what it says about itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from object_server import ObjectServer, objects

from coordinator.config import CoordinatorFile, load_config, write_sample
from coordinator.storage import open_blobs, records_place
from coordinator.store.sql.database import PostgresAddress
from ravan.configuration import read_text
from ravan.errors import ConfigError

__all__ = ["objects"]


def test_sample_holds_the_defaults() -> None:
    read = read_text(CoordinatorFile, write_sample(["hq.example"]), source="sample")
    assert read == CoordinatorFile.model_validate({"server": {"hosts": ["hq.example"]}})


def test_sample_shows_every_key_with_its_default() -> None:
    shown = re.sub(r"^# (\w+ = )", r"\1", write_sample(["hq.example"]), flags=re.MULTILINE)
    read = read_text(CoordinatorFile, shown, source="sample")
    assert read == CoordinatorFile.model_validate({"server": {"hosts": ["hq.example"]}})
    assert read.model_fields_set == set(CoordinatorFile.model_fields)
    for name in CoordinatorFile.model_fields:
        table = getattr(read, name)
        assert table.model_fields_set == set(type(table).model_fields)


def test_host_names_are_quoted() -> None:
    assert read_text(CoordinatorFile, write_sample(['a"b\\']), source="sample").server.hosts == ('a"b\\',)


def test_data_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text('[server]\nhosts = ["a"]\ndata_dir = "inner"\n')
    assert load_config(path, {}).server.data_dir == tmp_path.resolve() / "inner"
    path.write_text('[server]\nhosts = ["a"]\n')
    assert load_config(path, {}).server.data_dir == tmp_path.resolve()
    assert load_config(path, {"RAVAN_SERVER_DATA_DIR": "/srv/ravan"}).server.data_dir == Path("/srv/ravan")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[server]\nhosts = []\n",
        '[server]\nhosts = ["a"]\nsite_port = 70000\n',
        '[server]\nhosts = ["a"]\n[fleet]\nheartbeat_interval_s = 0\n',
        '[server]\nhosts = ["a"]\n[fleet]\nminimum_agent_version = "newest"\n',
        '[server]\nhosts = ["a"]\n[log]\nformat = "xml"\n',
        '[server]\nhosts = ["a"]\n[database]\nurl = "mysql://ravan@db/ravan"\n',
        '[server]\nhosts = ["a"]\n[database]\nurl = "postgresql://ravan@db"\n',
        '[server]\nhosts = ["a"]\n[database]\nurl = "postgresql://[::1/ravan"\n',
        '[server]\nhosts = ["a"]\n[objects]\nendpoint = "minio:9000"\n',
        '[server]\nhosts = ["a"]\n[retention]\nversions = -1\n',
    ],
)
def test_bad_values_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(CoordinatorFile, text, source="sample")
    assert caught.value.next_step


@pytest.mark.parametrize("url", ["postgresql://ravan:s3cret@db/ravan", "postgresql://ravan@db/ravan?password=s3cret"])
def test_a_password_in_the_file_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="password_file") as caught:
        read_text(CoordinatorFile, f'[server]\nhosts = ["a"]\n[database]\nurl = "{url}"\n', source="sample")
    assert "s3cret" not in str(caught.value) + caught.value.next_step


def test_records_and_blobs_are_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    config = write_config(tmp_path, "")
    assert records_place(config) == tmp_path / "ravan.db"
    open_blobs(config).put(b"state")
    assert [file.read_bytes() for file in (tmp_path / "blobs").rglob("*") if file.is_file()] == [b"state"]


def test_the_password_is_read_from_its_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p%ss word\n")
    config = write_config(tmp_path, '[database]\nurl = "postgresql://ravan@db:5433/ravan"\npassword_file = "secret"\n')
    place = records_place(config)
    assert place == PostgresAddress(url="postgresql://ravan@db:5433/ravan", password="p%ss word")  # noqa: S106
    assert "p%ss" not in f"{place!r} {config!r}"


def test_a_secret_that_cannot_be_read_is_named_by_its_key(tmp_path: Path) -> None:
    database = '[database]\nurl = "postgresql://ravan@db/ravan"\npassword_file = "absent"\n'
    config = write_config(tmp_path, f'{database}[objects]\nbucket = "ravan"\nsecret_file = "absent"\n')
    with pytest.raises(ConfigError, match=r"database\.password_file"):
        records_place(config)
    with pytest.raises(ConfigError, match=r"objects\.secret_file"):
        open_blobs(config)


def test_blobs_go_into_the_bucket_that_is_named(tmp_path: Path, objects: ObjectServer) -> None:
    bucket = objects.new_bucket()
    (tmp_path / "secret").write_text(bucket.secret_access_key)
    text = f"""[objects]
bucket = "{bucket.name}"
prefix = "hq"
endpoint = "{bucket.endpoint}"
access_key_id = "{bucket.access_key_id}"
secret_file = "secret"
"""
    digest = open_blobs(write_config(tmp_path, text)).put(b"state")
    assert objects.request("GET", f"{bucket.name}/hq/{digest.hex()[:2]}/{digest.hex()}") == b"state"


def write_config(folder: Path, tables: str) -> CoordinatorFile:
    path = folder / "coordinator.toml"
    path.write_text(f'[server]\nhosts = ["a"]\n{tables}')
    return load_config(path, {})
