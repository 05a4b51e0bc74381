"""Own heads are trained on the site's data, judged by rows that nothing was learnt from, and kept where better."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from kept_models import JOB, KeptSite, kept_site, write_table

from coordinator.evaluation import worker
from edge_agent.cli import cli
from edge_agent.personal.training import LEAST_VALIDATION, OwnTraining
from ravan.adapters.state import decode_state
from ravan.data.contents import ContentRegister
from ravan.errors import ConfigError, DataError, ErrorReason, StateError
from ravan.ids import BlockKind
from ravan.manifest.plan import Task
from ravan.tasks.passes import Score

SHARE = 0.4
FILLERS = ("the", "not", "hose", "burst", "start", "leak", "door")
ROWS = tuple(
    (f"{a} {b} {word}", word) for word in ("pump", "engine", "cab") for a, b in itertools.product(FILLERS, repeat=2)
)


def kept_back(text: str) -> bool:
    return ContentRegister(SHARE).enter(text.encode(), 0)[1]


JUDGED = tuple(row for row in ROWS if kept_back(row[0]))


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    worker._KEPT.task = worker._KEPT.data = worker._KEPT.model_key = worker._KEPT.data_key = None


@pytest.fixture
def site(tmp_path: Path) -> KeptSite:
    made = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    give(made, ROWS)
    made.keep(seed=3, round_number=3)
    return made


def give(site: KeptSite, rows: tuple[tuple[str, str], ...], share: float = SHARE) -> None:
    """Let the site's data be these."""
    path = write_table(site.config_path.parent / "rows.csv", rows)
    site.config_path.write_text(f'[data.orders]\npath = "{path}"\nvalidation_share = {share}\n')


def run(site: KeptSite, *arguments: str) -> Result:
    config = ["--config", str(site.config_path)]
    return CliRunner().invoke(cli, [*arguments, *config], env={"RAVAN_AGENT_THREADS": "1"})


def facts(result: Result) -> dict[str, Any]:
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def predicted(site: KeptSite, tmp_path: Path, *options: str) -> float:
    """Return the share of the kept-back rows that `predict` gets right."""
    path = write_table(tmp_path / "judged.csv", JUDGED)
    result = run(site, "predict", JOB, str(path), "--json", *options)
    assert result.exception is None, result.exception
    labels = [json.loads(line)["label"] for line in result.stdout.splitlines()]
    return [label == wanted for label, (_, wanted) in zip(labels, JUDGED, strict=True)].count(True) / len(JUDGED)


def test_better_heads_are_kept_and_used_when_asked_for(site: KeptSite, tmp_path: Path) -> None:
    found = facts(run(site, "personalise", JOB, "--steps", "80", "--json"))
    assert (found["kept"], found["round"], found["steps"]) == (True, 3, 80)
    assert found["learnt_from"] == len(ROWS) - len(JUDGED)
    assert found["shared"]["examples"] == found["own"]["examples"] == len(JUDGED)
    assert found["own"]["accuracy"] > found["shared"]["accuracy"]
    # What was said of both is what they do.
    assert predicted(site, tmp_path, "--personal") == found["own"]["accuracy"]
    assert predicted(site, tmp_path) == found["shared"]["accuracy"]
    judged = dataclasses.replace(site.held_out, path=tmp_path / "judged.csv")
    version = site.predictor().kept.read_state()
    assert site.evaluate(version, judged).loss == pytest.approx(found["shared"]["loss"], rel=1e-9)


def test_heads_that_are_no_better_are_not_kept(site: KeptSite) -> None:
    site.put(site.train(steps=1, seed=1), 4)
    # What can be learnt here is wrong wherever it is judged.
    wrong = {"pump": "engine", "engine": "cab", "cab": "pump"}
    give(site, tuple((text, label if kept_back(text) else wrong[label]) for text, label in ROWS))
    result = run(site, "personalise", JOB, "--steps", "60")
    assert result.exception is None, result.exception
    assert "They are no better; nothing was kept." in result.stdout
    assert isinstance(run(site, "predict", JOB, "--data", "orders", "--personal").exception, StateError)


def test_the_classifier_alone(site: KeptSite) -> None:
    found = facts(run(site, "personalise", JOB, "--steps", "20", "--classifier-alone", "--json"))
    assert found["kept"]
    plan, before = site.plan, site.predictor().kept.read_state()
    (own,) = (site.config_path.parent / "state" / "personal").rglob("*.safetensors")
    shared, now = decode_state(plan, before), decode_state(plan, own.read_bytes())
    changed = {block.kind for block in shared if (shared[block] != now[block]).any()}
    assert changed == {BlockKind.DENSE}


def test_a_newer_version_asks_for_new_heads(site: KeptSite) -> None:
    assert facts(run(site, "personalise", JOB, "--steps", "20", "--json"))["kept"]
    site.keep(seed=4, round_number=4)
    error = run(site, "predict", JOB, "--data", "orders", "--personal").exception
    assert isinstance(error, StateError)
    assert "on top of round 3" in str(error)


def test_too_few_rows_to_judge_by_are_refused_before_anything_is_trained(site: KeptSite) -> None:
    give(site, ROWS, share=0.0)
    error = run(site, "personalise", JOB).exception
    assert isinstance(error, DataError)
    assert error.reason is ErrorReason.DATA_TOO_FEW
    assert f"{LEAST_VALIDATION} or more" in str(error)
    assert "validation_share" in error.next_step


def test_a_model_without_a_classifier_has_none_to_train(tmp_path: Path) -> None:
    speaking = kept_site(tmp_path, Task.CAUSAL_LM)
    speaking.keep(seed=1, round_number=1)
    assert isinstance(run(speaking, "personalise", JOB, "--classifier-alone").exception, ConfigError)


@pytest.mark.parametrize(
    ("shared", "own", "better"),
    [
        ((0.5, 1.0), (0.6, 2.0), True),
        ((0.5, 1.0), (0.5, 0.9), True),
        ((0.5, 1.0), (0.5, 1.0), False),
        ((0.5, 1.0), (0.4, 0.1), False),
        ((0.5, 1.0), (0.5, 1.1), False),
        ((0.5, 1.0), (0.5, float("nan")), False),
    ],
)
def test_better_is_right_more_often_or_as_often_and_surer(
    shared: tuple[float, float], own: tuple[float, float], better: bool
) -> None:
    scores = [Score(accuracy=accuracy, loss=loss, examples=20) for accuracy, loss in (shared, own)]
    assert OwnTraining(state=b"", steps=1, learnt_from=1, shared=scores[0], own=scores[1]).better is better
