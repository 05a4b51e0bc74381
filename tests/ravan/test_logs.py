"""The log of both daemons: one form for all records, and no secret in a trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from coordinator.config import CoordinatorFile
from edge_agent.config import AgentFile
from ravan.logs import LogFormat, LogLevel, LogTable, set_up_logs

SECRET = "correct-horse-battery-staple"  # noqa: S105 - stands for one


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


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


def test_both_daemons_have_the_same_log_table() -> None:
    assert AgentFile.model_fields["log"].annotation is LogTable
    assert CoordinatorFile.model_fields["log"].annotation is LogTable
