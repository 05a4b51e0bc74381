"""The log of both daemons: one form for all records, and no secret in a trace."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest
import structlog
from log_settings import logging_as_before

from coordinator.config import CoordinatorFile
from coordinator.config import load_config as load_coordinator
from edge_agent.config import AgentFile
from edge_agent.config import load_config as load_agent
from ravan.logs import LogFormat, LogLevel, LogTable, set_up_logs

SECRET = "correct-horse-battery-staple"  # noqa: S105 - stands for one


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    with logging_as_before():
        yield


def fail_with_a_secret() -> None:
    share = SECRET[::-1][::-1]
    raise ValueError(f"no room for {len(share)} letters")


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.TEXT])
@pytest.mark.parametrize("library", [False, True])
def test_a_trace_names_the_place_and_shows_no_local_variable(
    form: LogFormat, library: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(LogTable(format=form))
    try:
        fail_with_a_secret()
    except ValueError as error:
        if library:
            logging.getLogger("some.library").exception("it failed")
        else:
            structlog.stdlib.get_logger("ravan.test").error("it failed", exc_info=error)

    text = capsys.readouterr().err
    assert "fail_with_a_secret" in text
    assert f"no room for {len(SECRET)} letters" in text
    assert SECRET not in text
    assert "share =" not in text
    assert "locals" not in text


def test_json_lines_carry_event_level_logger_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(LogTable(format=LogFormat.JSON, level=LogLevel.INFO))

    structlog.stdlib.get_logger("ravan.test").info("uploaded", round=3)
    logging.getLogger("some.library").warning("%s of %s", 1, 2)
    structlog.stdlib.get_logger("ravan.test").debug("too much detail")

    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["logger"], first["round"]) == ("uploaded", "info", "ravan.test", 3)
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"], second["logger"]) == ("1 of 2", "warning", "some.library")


def test_a_logger_that_was_used_before_follows_the_new_settings(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(LogTable(format=LogFormat.TEXT))
    log = structlog.stdlib.get_logger("ravan.test")
    log.info("before")
    set_up_logs(LogTable(format=LogFormat.JSON))
    log.info("after")

    assert json.loads(capsys.readouterr().err.splitlines()[-1])["event"] == "after"
    with structlog.testing.capture_logs() as lines:
        log.info("in a test")
    assert [line["event"] for line in lines] == ["in a test"]


def test_both_daemons_have_the_same_log_table() -> None:
    assert AgentFile.model_fields["log"].annotation is LogTable
    assert CoordinatorFile.model_fields["log"].annotation is LogTable


def in_file(path: Path, count: int = 2) -> LogTable:
    return LogTable(format=LogFormat.JSON, file=str(path), max_mb=1, count=count)


def test_a_log_file_grows_to_its_length_and_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = in_file(tmp_path / "logs" / "ravan.log")
    set_up_logs(settings)
    for number in range(40):
        structlog.stdlib.get_logger("ravan.test").info("uploaded", number=number, padding="x" * 100_000)
    newest, *full = settings.files
    assert sorted(path.name for path in newest.parent.iterdir()) == ["ravan.log", "ravan.log.1", "ravan.log.2"]
    assert all(path.stat().st_size <= 1 << 20 for path in settings.files)
    assert {path.stat().st_mode & 0o777 for path in settings.files} == {0o600}
    numbers = [
        json.loads(line)["number"] for path in reversed((newest, *full)) for line in path.read_text().splitlines()
    ]
    assert numbers == list(range(numbers[0], 40))
    assert len(numbers) > 20
    assert len(capsys.readouterr().err.splitlines()) == 40


def test_a_later_process_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in (1, 2):
        set_up_logs(in_file(tmp_path / "ravan.log"))
        structlog.stdlib.get_logger("ravan.test").info("started", number=number, word="Prüfung \udcff")
    lines = [json.loads(line) for line in (tmp_path / "ravan.log").read_text(encoding="utf-8").splitlines()]
    assert [line["number"] for line in lines] == [1, 2]


def test_a_full_disk_ends_nothing_and_fills_no_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_logs(in_file(tmp_path / "ravan.log"))
    (file,) = (each for each in logging.getLogger().handlers if isinstance(each, RotatingFileHandler))

    def full(_: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file.stream, "write", full, raising=False)
    structlog.stdlib.get_logger("ravan.test").info("still here")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["still here"]


def test_without_standard_error_the_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    set_up_logs(in_file(tmp_path / "ravan.log"))
    structlog.stdlib.get_logger("ravan.test").info("as a service")
    assert json.loads((tmp_path / "ravan.log").read_text())["event"] == "as a service"


def test_the_file_lies_beside_the_configuration(tmp_path: Path) -> None:
    for name, load in (("agent.toml", load_agent), ("coordinator.toml", load_coordinator)):
        server = '[server]\nhosts = ["hq"]\n' if name == "coordinator.toml" else ""
        (tmp_path / name).write_text(f'{server}[log]\nfile = "logs/ravan.log"\ncount = 1\n')
        files = load(tmp_path / name, {"NOTHING": ""}).log.files
        assert files == (tmp_path / "logs" / "ravan.log", tmp_path / "logs" / "ravan.log.1")
    assert LogTable().files == ()
