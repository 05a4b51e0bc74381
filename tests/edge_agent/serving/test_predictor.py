"""What a PC says by the version that it keeps is what headquarters measured of it, for every task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kept_models import LABELS, TEXTS, kept_site, write_table

from coordinator.evaluation import worker
from edge_agent.serving.predictor import Prediction
from ravan.data.examples import read_examples
from ravan.data.unlabelled import NO_TEXT, read_questions
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import Task


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    worker._KEPT.task = worker._KEPT.data = worker._KEPT.model_key = worker._KEPT.data_key = None


@pytest.mark.parametrize("task", [Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION, Task.SERIES_CLASSIFICATION])
def test_labels_and_probabilities_are_those_that_headquarters_measured(tmp_path: Path, task: Task) -> None:
    site = kept_site(tmp_path, task)
    measured = site.evaluate(site.keep(seed=3, round_number=3))
    truth = read_examples(site.held_out, site.plan.training)
    found = site.predictor().answer(read_questions(site.held_out, site.plan.training))
    right = [LABELS[label] for label in truth.label_ids]  # type: ignore[union-attr] # no answers here
    assert len(found) == len(right) == measured.examples
    assert sum(each.label == label for each, label in zip(found, right, strict=True)) / len(right) == measured.accuracy
    losses = [-math.log(each.probabilities[label]) for each, label in zip(found, right, strict=True)]
    assert sum(losses) / len(losses) == pytest.approx(measured.loss, rel=1e-12)
    assert all(sum(each.probabilities.values()) == pytest.approx(1) for each in found)
    assert len({each.probabilities["pump"] for each in found}) == len(found)


def test_another_version_says_something_else_and_is_taken_up_without_loading_anew(tmp_path: Path) -> None:
    site = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    site.keep(seed=3, round_number=3)
    predictor, questions = site.predictor(), read_questions(site.held_out, site.plan.training)
    before = predictor.answer(questions)
    measured = site.evaluate(site.keep(seed=4, round_number=4))
    predictor.follow(site.predictor().kept)
    after = predictor.answer(questions)
    assert after != before
    losses = [-math.log(each.probabilities[label]) for each, (_, label) in zip(after, TEXTS, strict=True)]
    assert sum(losses) / len(losses) == pytest.approx(measured.loss, rel=1e-12)
    assert after == site.predictor().answer(questions)


def test_answers_are_those_that_headquarters_counts_as_right(tmp_path: Path) -> None:
    site = kept_site(tmp_path, Task.CAUSAL_LM)
    # The last row wants what it was not trained to say.
    rows = (*TEXTS, ("the pump", "burst burst"))
    held_out = dataclasses.replace(site.held_out, path=write_table(tmp_path / "wanted.csv", rows))
    state = site.train(steps=60, seed=1)
    site.put(state)
    found = site.predictor().answer(read_questions(held_out, site.plan.training))
    right = sum(each.label == answer for each, (_, answer) in zip(found, rows, strict=True))
    assert 0 < right < len(rows)
    assert right / len(rows) == site.evaluate(state, held_out).accuracy
    assert all(not each.probabilities for each in found)


def test_rows_without_text_keep_their_place(tmp_path: Path) -> None:
    site = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    site.keep(seed=3, round_number=3)
    path = write_table(tmp_path / "rows.csv", (("the hose", ""), ("  ", ""), ("leak", "unknown")))
    source = dataclasses.replace(site.held_out, path=path)
    first, blank, last = site.predictor().answer(read_questions(source, site.plan.training))
    assert [first.place, blank.place, last.place] == ["2", "3", "4"]
    assert blank == Prediction(place="3", label="", fault=NO_TEXT)
    assert first.label in LABELS
    assert last.label in LABELS


def test_a_base_model_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    site = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    site.keep(seed=3, round_number=3)
    weights = next(file for file in site.plan.model_files if file.path.endswith(".safetensors"))
    blob = site.config_path.parent / "cache" / "blobs" / weights.sha256.hex()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="missing from the cache or damaged") as caught:
        site.predictor()
    assert caught.value.reason is ErrorReason.MODEL_MISSING
    blob.unlink()
    with pytest.raises(ModelError, match=weights.sha256.hex()):
        site.predictor()
