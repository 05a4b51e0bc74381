"""What happened is shown by kind, subject, actor and time, from a coordinator that runs and one that does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from coordinator_process import Headquarters, found, serving


@pytest.fixture(scope="module")
def hq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Headquarters]:
    """Two join strings were made, and a restart."""
    headquarters = found(tmp_path_factory.mktemp("events") / "hq")
    with serving(headquarters):
        for site in ("north", "south"):
            assert headquarters.run("token", "create", "--site", site).returncode == 0
    with serving(headquarters):
        yield headquarters


INVITED = [("token_created", "north"), ("token_created", "south")]


def kinds(hq: Headquarters, *arguments: str) -> list[tuple[str, str]]:
    done = hq.run("events", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [(each["kind"], each["subject"]) for each in map(json.loads, done.stdout.splitlines())]


def test_everything_is_shown_oldest_first(hq: Headquarters) -> None:
    assert kinds(hq) == [
        ("started", ""),
        ("configured", ""),
        ("token_created", "north"),
        ("token_created", "south"),
        ("started", ""),
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--kind", "token_created"), [("token_created", "north"), ("token_created", "south")]),
        (
            ("--kind", "token_created", "--kind", "configured", "--limit", "2"),
            [("token_created", "north"), ("token_created", "south")],
        ),
        (("--about", "north"), [("token_created", "north")]),
        (("--by", "admin", "--about", "south"), [("token_created", "south")]),
        (("--by", "operator", "--limit", "1"), [("token_created", "south")]),
        (("--by", "operator:ad"), []),
        (("--by", "mia"), []),
        (("--since", "7d", "--kind", "configured"), [("configured", "")]),
    ],
)
def test_filters(hq: Headquarters, arguments: tuple[str, ...], shown: list[tuple[str, str]]) -> None:
    assert kinds(hq, *arguments) == shown


def test_people_get_a_line_with_who_and_what(hq: Headquarters) -> None:
    [line] = hq.run("events", "--about", "north").stdout.splitlines()
    assert "token_created north by operator:admin " in line
    assert " expires='" in line


def test_an_unknown_kind_names_those_that_there_are(hq: Headquarters) -> None:
    done = hq.run("events", "--kind", "coffee")
    assert done.returncode == 2
    assert "There is no kind 'coffee'" in done.stderr
    assert "job_submitted" in done.stderr


def test_nothing_is_said_to_have_happened(hq: Headquarters) -> None:
    done = hq.run("events", "--about", "nobody")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing that was asked for" in done.stderr


def test_a_stopped_coordinator_still_tells(tmp_path: Path) -> None:
    headquarters = found(tmp_path / "hq")
    with serving(headquarters):
        pass
    assert ("started", "") in kinds(headquarters)
