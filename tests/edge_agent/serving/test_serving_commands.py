"""`predict`, `serve-model` and `model list` as people and programs call them, with no coordinator anywhere."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kept_models import JOB, LABELS, TEXTS, KeptSite, kept_site

from edge_agent.cli import cli
from ravan.data.unlabelled import NO_TEXT, read_questions
from ravan.errors import ConfigError, RavanError, StateError
from ravan.manifest.plan import Task


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> KeptSite:
    made = kept_site(tmp_path_factory.mktemp("site"), Task.SEQUENCE_CLASSIFICATION)
    made.keep(seed=3, round_number=3)
    return made


def run(site: KeptSite, *arguments: str, given: bytes = b"") -> Result:
    config = ["--config", str(site.config_path)]
    return CliRunner().invoke(cli, [*arguments, *config], input=given, env={"RAVAN_AGENT_THREADS": "1"})


def output(result: Result) -> str:
    assert result.exception is None, result.exception
    return result.stdout


def error(result: Result) -> RavanError:
    assert isinstance(result.exception, RavanError), result.output
    return result.exception


def test_a_file_becomes_csv(site: KeptSite) -> None:
    found = list(csv.DictReader(io.StringIO(output(run(site, "predict", JOB, str(site.held_out.path))))))
    direct = site.predictor().answer(read_questions(site.held_out, site.plan.training))
    assert [(each["row"], each["label"]) for each in found] == [(each.place, each.label) for each in direct]
    for row, each in zip(found, direct, strict=True):
        assert {label: float(row[f"p({label})"]) for label in LABELS} == pytest.approx(each.probabilities, abs=1e-6)


def test_json_lines_go_to_a_file(site: KeptSite, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    assert output(run(site, "predict", JOB, str(site.held_out.path), "--json", "--out", str(out))) == ""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["row"] for row in rows] == ["2", "3", "4", "5", "6"]
    assert all(max(row["probabilities"], key=row["probabilities"].get) == row["label"] for row in rows)


def test_the_site_s_own_data_and_their_columns(site: KeptSite, tmp_path: Path) -> None:
    by_name = output(run(site, "predict", JOB, "--data", "orders"))
    assert by_name == output(run(site, "predict", JOB, str(site.held_out.path)))
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in TEXTS))
    found = list(csv.DictReader(io.StringIO(output(run(site, "predict", JOB, str(lines))))))
    assert [each["label"] for each in found] == [each["label"] for each in csv.DictReader(io.StringIO(by_name))]


def test_standard_input_is_answered_line_by_line(site: KeptSite) -> None:
    given = "\ufeffthe hose burst\n\nleak – \xe9\n".encode() + b"\xff broken\n"
    rows = [json.loads(line) for line in output(run(site, "predict", JOB, "-", "--json", given=given)).splitlines()]
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1] == {"row": "2", "error": NO_TEXT}
    alone = site.predictor().answer(read_questions(site.held_out, site.plan.training))[0]
    # Without the byte order mark it is the first text of the file; alone it is padded otherwise.
    assert rows[0]["probabilities"] == pytest.approx(alone.probabilities, rel=1e-5)


def test_wrong_use_is_told(site: KeptSite) -> None:
    assert isinstance(error(run(site, "predict", JOB)), ConfigError)
    assert isinstance(error(run(site, "predict", JOB, "a.csv", "--data", "orders")), ConfigError)
    unknown = error(run(site, "predict", "other", "-"))
    assert isinstance(unknown, StateError)
    assert unknown.next_step == f"There are: {JOB}."


def test_kept_models_are_listed(site: KeptSite, tmp_path: Path) -> None:
    (facts,) = json.loads(output(run(site, "model", "list", "--json")))
    assert (facts["job"], facts["round"], facts["labels"]) == (JOB, 3, list(LABELS))
    assert f"{JOB}  sequence_classification  on tiny, of round 3" in output(run(site, "model", "list"))
    empty = tmp_path / "agent.toml"
    empty.write_text("")
    assert "No model yet" in CliRunner().invoke(cli, ["model", "list", "--config", str(empty)]).stdout


def test_answers_have_no_probabilities(tmp_path: Path) -> None:
    speaking = kept_site(tmp_path, Task.CAUSAL_LM)
    speaking.keep(seed=1, round_number=1)
    lines = output(run(speaking, "predict", JOB, "-", given=b"the hose\n")).splitlines()
    assert lines[0] == "row,label"
    assert lines[1].startswith("1,")
    (row,) = output(run(speaking, "predict", JOB, "-", "--json", given=b"the hose\n")).splitlines()
    assert json.loads(row).keys() == {"row", "label"}


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - loopback
        return json.load(response)


@contextmanager
def started(site: KeptSite, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *arguments, "--config", str(site.config_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAVAN_AGENT_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@pytest.mark.slow
def test_a_program_that_waits_for_each_answer_gets_it(site: KeptSite) -> None:
    with started(site, "predict", JOB, "-", "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, text in enumerate(("the hose burst", "", "leak"), start=1):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["row"] == str(number)
        process.stdin.close()
        assert process.wait(20) == 0


def test_other_programs_are_answered_by_the_newest_version(tmp_path: Path) -> None:
    site = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    site.keep(seed=3, round_number=3)
    with started(site, "serve-model", JOB, "--port", "0") as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        url = found.group()
        for number in (3, 4):
            if number == 4:
                site.keep(seed=4, round_number=4)
            answer = ask(f"{url}/predict", {"texts": [text for text, _ in TEXTS]})
            direct = site.predictor().answer(read_questions(site.held_out, site.plan.training))
            assert [each["label"] for each in answer["predictions"]] == [each.label for each in direct]
            assert answer["predictions"][0]["probabilities"] == pytest.approx(direct[0].probabilities, rel=1e-6)
            assert ask(f"{url}/model")["round"] == answer["round"] == number
        assert ask(f"{url}/healthz") == {"status": "alive"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
