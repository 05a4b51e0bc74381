"""Configuration files: what is accepted, what the environment changes, and every sentence of refusal."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from ravan.configuration import STRICT, load_file, nearest_name, read_text
from ravan.errors import ConfigError, ErrorReason


class Server(BaseModel):
    model_config = STRICT
    host: str = "127.0.0.1"
    port: int = Field(default=8440, ge=0, le=65535)
    quiet: bool = False
    folder: Path = Path("data")
    names: tuple[str, ...] = ()


class Source(BaseModel):
    model_config = STRICT
    path: str

    @field_validator("path")
    @classmethod
    def refuse_remote(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("must be a file on this PC")
        return value


class Whole(BaseModel):
    model_config = STRICT
    server: Server = Server()
    data: dict[str, Source] = {}


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_text(Whole, text, source="whole.toml")
    assert caught.value.reason is ErrorReason.CONFIG_INVALID
    return caught.value


def test_reads_values_and_defaults() -> None:
    whole = read_text(Whole, '[server]\nport = 9000\n[data.defects]\npath = "a.csv"\n', source="whole.toml")
    assert whole.server == Server(port=9000)
    assert whole.data == {"defects": Source(path="a.csv")}


def test_result_is_frozen() -> None:
    whole = read_text(Whole, "", source="whole.toml")
    with pytest.raises(ValueError, match="frozen"):
        whole.server.port = 1


def test_unknown_key_names_the_nearest() -> None:
    error = refusal("[server]\nprot = 1\n")
    assert "`server.prot` is not a known key" in str(error)
    assert error.next_step == "Did you mean `port`?"


def test_unknown_table_names_the_nearest() -> None:
    assert refusal("[sever]\nport = 1\n").next_step == "Did you mean `server`?"


def test_unknown_key_in_a_table_with_a_free_name() -> None:
    error = refusal('[data.defects]\npath = "a"\npaht = "b"\n')
    assert "`data.defects.paht`" in str(error)
    assert error.next_step == "Did you mean `path`?"


def test_unlike_any_name_lists_all() -> None:
    assert refusal("[server]\nzzzzzz = 1\n").next_step.startswith("Known here: `folder`, `host`")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[server]\nport = "many"\n', "`server.port` should be a whole number"),
        ("[server]\nport = 70000\n", "`server.port` should be less than or equal to 65535, but is 70000"),
        ("[data.defects]\n", "`data.defects.path` is missing"),
        ('[data.defects]\npath = "http://x"\n', "`data.defects.path`: must be a file on this PC"),
        ("[server\n", "whole.toml is not valid TOML"),
        ("[server]\nport = 1.5\nquiet = 7\n", "(1 more after it)"),
    ],
)
def test_refusals_are_sentences_with_the_path(text: str, sentence: str) -> None:
    error = refusal(text)
    assert sentence in str(error)
    assert error.next_step


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_file(Whole, tmp_path / "none.toml", create_with="ravan-coordinator init DIR --host NAME")
    assert "ravan-coordinator init DIR --host NAME" in caught.value.next_step


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_file(Whole, tmp_path, create_with="init")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_file(Whole, path, create_with="init")


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    path.write_text('[server]\nport = 1\nhost = "a"\n')
    environment = {
        "RAVAN_SERVER_PORT": "2",
        "RAVAN_SERVER_HOST": "7",
        "RAVAN_SERVER_QUIET": "true",
        "RAVAN_SERVER_FOLDER": "/srv",
        "RAVAN_SERVER_NAMES": '["x", "y"]',
        "RAVAN_SERVER_SERVICE_HOST": "set by an orchestrator",
    }
    whole = load_file(Whole, path, create_with="init", environment=environment)
    assert whole.server == Server(port=2, host="7", quiet=True, folder=Path("/srv"), names=("x", "y"))


def test_bad_environment_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"`server\.port` should be a whole number.*'many'"):
        load_file(Whole, path, create_with="init", environment={"RAVAN_SERVER_PORT": "many"})


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(read_text(Whole, text, source="whole.toml"), Whole)


def test_nearest_name_of_nothing() -> None:
    assert nearest_name("x", ()) == "Nothing may be set here."


def test_import_leaves_pydantic_alone() -> None:
    code = "import sys, ravan.configuration, ravan.console; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
