"""Types that hold secrets are found by walking the code; none shows them, in whatever way it gets into the log."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from log_settings import logging_as_before

import coordinator
import edge_agent
import ravan
from ravan.logs import LogFormat, LogTable, set_up_logs

SECRET = b"correct-horse-battery-staple"
SECRET_NAME = re.compile(r"(.*_)?(secret|password|seed|root|private_key)s?")
PRIVATE = re.compile(r"PrivateKey")
PUBLIC = {"AdapterSettings.seed"}
"""Drawn for everybody: bases are made from it."""
ELSEWHERE = re.compile(r"migrations\.|\.__main__$|windows|pywin|_pb2")
"""Not to be imported here: scripts, other systems' modules, and generated messages."""


def modules() -> Iterator[str]:
    for package in (ravan, coordinator, edge_agent):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not ELSEWHERE.search(found.name):
                yield found.name


def dataclasses_of_the_product() -> list[type[Any]]:
    found: dict[str, type[Any]] = {}
    for name in modules():
        module = importlib.import_module(name)
        for each in vars(module).values():
            if isinstance(each, type) and dataclasses.is_dataclass(each) and each.__module__ == name:
                found[f"{name}.{each.__qualname__}"] = each
    return list(found.values())


CLASSES = dataclasses_of_the_product()
BEARERS = [each for each in CLASSES if any(not field.repr and field.init for field in dataclasses.fields(each))]


def filled(kind: type[Any]) -> Any:
    """Return an instance whose hidden fields hold the secret, made without its constructor's checks."""
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, "harmless" if field.repr else SECRET)
    return made


def test_the_walk_finds_what_is_known_to_hold_secrets() -> None:
    names = {each.__name__ for each in BEARERS}
    assert {"Identity", "Pki", "Opening", "RoundKeys", "Invitation", "TrainingOutcome", "PostgresAddress"} <= names
    assert len(CLASSES) > 300


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_a_field_that_holds_a_secret_is_kept_out_of_repr(kind: type[Any]) -> None:
    told = [
        field.name
        for field in dataclasses.fields(kind)
        if field.repr and (SECRET_NAME.fullmatch(field.name) or PRIVATE.search(str(field.type)))
    ]
    assert [name for name in told if f"{kind.__name__}.{name}" not in PUBLIC] == []


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.TEXT])
def test_no_secret_gets_into_the_log(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.stdlib.get_logger("ravan.test")
    with logging_as_before():
        set_up_logs(LogTable(format=form))
        for kind in BEARERS:
            thing = filled(kind)
            log.info(f"holds {thing}", thing=thing, things=[{"of": (thing,)}], whole=dataclasses.fields(kind))
            log.info("holds %s", thing)
            log.info("each", **{f"{field.name}_": getattr(thing, field.name) for field in dataclasses.fields(kind)})
            logging.getLogger("some.library").warning("holds %s and %r", thing, SECRET)
            logging.getLogger("some.library").warning("holds %(it)s", {"it": SECRET})
        text = capsys.readouterr().err
    assert text.count("holds") == 4 * len(BEARERS)
    for writing in (SECRET.decode(), SECRET.hex()):
        assert writing not in text
