"""The configuration file that `init` writes, and what it says about itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.config import CoordinatorFile, load_config, write_sample
from ravan.configuration import read_text
from ravan.errors import ConfigError


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
        '[server]\nhosts = ["a"]\n[log]\nformat = "xml"\n',
    ],
)
def test_bad_values_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(CoordinatorFile, text, source="sample")
    assert caught.value.next_step
