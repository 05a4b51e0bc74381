"""What goes into a support bundle helps, and holds nothing of data, keys, passwords or places."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from log_settings import logging_as_before
from scripted_headquarters import enrol_by_hand

from coordinator.enrolment.pki import create_pki
from edge_agent.config import AgentFile, load_config
from edge_agent.data.inspection import inspect_data
from edge_agent.data.report import Expectation
from edge_agent.doctor import examine
from edge_agent.session.client import _say_failure
from edge_agent.support import bundle
from edge_agent.support.bundle import write_bundle
from edge_agent.support.log_lines import reduce_lines
from edge_agent.support.redaction import Redactor
from ravan.errors import DataError, ErrorReason, ResourceError, StateError
from ravan.logs import set_up_logs

CANARY = "xyzzy"
"""In every word that must not leave."""


EXTRA = """
[data.orders]
path = "FOLDER/xyzzy-orders.csv"
format = "csv"
text = "xyzzy-text"
label = "xyzzy-label"

[data.server]
format = "postgresql"
url = "postgresql://xyzzy-user@127.0.0.1:1/xyzzy-db"
query = "SELECT xyzzy FROM xyzzy"
password_file = "FOLDER/xyzzy-password"
text = "xyzzy-a"
label = "xyzzy-b"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentFile]:
    """A PC with canaries wherever something secret lies, and a log that met them."""
    folder = tmp_path / f"{CANARY}-plant"
    pki = create_pki(tmp_path / "pki", ["127.0.0.1"], now=time.time())
    path = enrol_by_hand(pki, 1, folder, EXTRA.replace("FOLDER", str(folder)))
    path.write_text(path.read_text().replace("[log]", '[log]\nfile = "logs/ravan.log"'))
    rows = "".join(f"{CANARY} burst {n},{CANARY}{n}\n" for n in range(20))
    (folder / f"{CANARY}-orders.csv").write_text(f"{CANARY}-text,{CANARY}-label\n{rows}")
    (folder / f"{CANARY}-password").write_text(f"{CANARY}-secret")
    monkeypatch.setenv("SOME_PASSWORD", f"{CANARY}-environment")
    config = load_config(path)
    with logging_as_before():
        set_up_logs(config.log)
        yield config


def say_what_happens(config: AgentFile) -> None:
    log = structlog.stdlib.get_logger("edge_agent.session.client")
    log.info("data read", job="orders", examples=4242, left_out=4243)
    log.info("uploaded", round=7)
    log.warning("The coordinator at hq:8443 cannot be reached.", next_step="Check the name.")
    try:
        int(f"{CANARY} is no number")
    except ValueError as error:
        _say_failure(error)
    report = inspect_data(config, "orders", Expectation(labels=("engine",)))
    assert CANARY in report.faults[0]
    _say_failure(DataError(report.faults[0], reason=ErrorReason.DATA_UNKNOWN_LABEL, next_step=f"Correct {CANARY}."))
    _say_failure(ResourceError(f"The disk of /srv/{CANARY}/x is full.", reason=ErrorReason.DISK_FULL))
    # as a release before this one wrote it
    log.error(f"Line 3 of {CANARY} cannot be read", next_step=f"Correct {CANARY}")
    logging.getLogger().handlers[-1].stream.write(f"{CANARY} is not JSON\n")  # type: ignore[attr-defined]


def read_all(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


async def test_nothing_secret_is_in_it(config: AgentFile, tmp_path: Path) -> None:
    say_what_happens(config)
    assert CANARY in config.log.files[0].read_text()
    names = write_bundle(config, await examine(config), tmp_path / "help.zip")
    contents = read_all(tmp_path / "help.zip")
    assert tuple(contents) == names
    everything = "\n".join((*contents, *contents.values()))
    assert CANARY not in everything
    assert "4242" not in everything
    keys = [line for path in (config.agent.identity_dir).glob("*.key") for line in path.read_text().splitlines()]
    assert len(keys) >= 6
    assert [line for line in keys if line in everything] == []
    assert str(tmp_path) not in everything
    assert (tmp_path / "help.zip").stat().st_mode & 0o777 == 0o600


async def test_what_helps_is_in_it(config: AgentFile, tmp_path: Path) -> None:
    say_what_happens(config)
    write_bundle(config, await examine(config), tmp_path / "help.zip")
    contents = read_all(tmp_path / "help.zip")
    assert json.loads(contents["versions.json"])["torch"].startswith("2.")
    settings = json.loads(contents["configuration.json"])
    assert (settings["log"]["max_mb"], settings["data"]["orders"]["kind"]) == (10, "texts")
    assert {settings["data"]["server"][key] for key in ("password_file", "url", "query")} == {"(left out)"}
    assert json.loads(contents["hardware.json"])["cores"] > 0
    findings = {each["name"]: each for each in json.loads(contents["doctor.json"])}
    assert (findings["coordinator"]["good"], bool(findings["coordinator"]["remedy"])) == (False, True)
    assert (findings["data orders"]["good"], findings["data orders"]["sentence"]) == (True, "(left out)")
    lines = [json.loads(line) for line in contents["logs/ravan.log"].splitlines()]
    assert len(lines) == 7
    assert (lines[1]["event"], lines[1]["round"]) == ("uploaded", 7)
    assert lines[2]["event"] == "The coordinator at hq:8443 cannot be reached."
    assert lines[3]["exception"][-1] == "ValueError"
    assert any("test_support_bundle.py" in frame and "say_what_happens" in frame for frame in lines[3]["exception"])
    assert (lines[4]["reason"], lines[4]["event"]) == ("DATA_UNKNOWN_LABEL", "(left out)")
    assert lines[5]["event"] == "The disk of (path) is full."


def test_a_long_log_is_cut_to_its_newest(config: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_LOG_BYTES", 3000)
    newest, older, *_ = config.log.files
    line = json.dumps({"event": "uploaded", "level": "info", "round": 1}) + "\n"
    newest.write_text(line * 20)
    older.write_text(line * 2000)
    write_bundle(config, (), tmp_path / "help.zip")
    contents = read_all(tmp_path / "help.zip")
    assert len(contents["logs/ravan.log"].splitlines()) == 20
    assert 20 < len(contents["logs/ravan.log.1"].splitlines()) < 60


def test_a_file_that_is_there_is_kept(config: AgentFile, tmp_path: Path) -> None:
    (tmp_path / "help.zip").write_text("mine")
    with pytest.raises(StateError):
        write_bundle(config, (), tmp_path / "help.zip")
    assert (tmp_path / "help.zip").read_text() == "mine"


JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FORMS = ["'{}'", '"{}"', "“{}”", "/srv/{}", "C:\\d\\{}", "'it's {}'", '"a "{}"" b']


@given(st.lists(st.text() | JSON.map(json.dumps)))
def test_any_line_is_taken(lines: list[str]) -> None:
    for line in reduce_lines(lines, Redactor(AgentFile())):
        assert isinstance(json.loads(line), dict)


@given(st.text(alphabet="abc/\\: ", max_size=30), st.sampled_from(["'{}'", '"{}"', "“{}”", "/srv/{}", "C:\\d\\{}"]))
def test_what_is_quoted_or_a_path_is_left_out(around: str, form: str) -> None:
    assert CANARY not in Redactor(AgentFile()).clean(f"{around} {form.format(CANARY)}")


def test_an_apostrophe_is_no_quotation_mark() -> None:
    sentence = "this PC's clock differs from the coordinator's"
    assert Redactor(AgentFile()).clean(sentence) == sentence
