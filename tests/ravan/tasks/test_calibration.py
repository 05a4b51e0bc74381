"""The calibrated loss against its definition, number by number, and that nothing else of a task changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_settings import settings_of
from tiny_task_models import write_tiny_llama

from ravan.data.texts import AnswerExamples, TextExamples
from ravan.manifest.plan import Task
from ravan.tasks.calibration import CalibratedTask, calibrate
from ravan.tasks.frequencies import frequencies_to_expect, own_frequencies
from ravan.tasks.images import ScaledImages
from ravan.tasks.loading import load_task_model
from ravan.tasks.series import SensorWindows
from ravan.tasks.task_model import EncodedExamples, TaskModel
from simulation.tiny_text_model import write_tiny_model

IDS = (0, 0, 0, 2, 2, 0, 0)


@pytest.fixture(scope="module")
def text_task(tmp_path_factory: pytest.TempPathFactory) -> TaskModel[Any]:
    folder = write_tiny_model(tmp_path_factory.mktemp("model"))
    return load_task_model(folder, settings_of(Task.SEQUENCE_CLASSIFICATION))


def some_texts(task: TaskModel[Any]) -> Any:
    return task.encode(TextExamples(texts=("the hose",) * len(IDS), label_ids=IDS, left_out=0))


def weighted_losses(logits: list[list[float]], labels: list[int], ratios: list[float]) -> list[float]:
    """Return -log of q_y e^z_y / sum_c q_c e^z_c, one number after the other."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        weighted = [ratio * math.exp(value) for ratio, value in zip(ratios, row, strict=True)]
        losses.append(-math.log(weighted[label] / sum(weighted)))
    return losses


@pytest.mark.parametrize("expected", [(1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)])
def test_losses_weigh_a_class_by_how_frequent_it_is_here_and_is_to_be(
    text_task: TaskModel[Any], expected: tuple[float, ...]
) -> None:
    data = some_texts(text_task)
    ratios = [own / wanted for own, wanted in zip((5 / 7, 0, 2 / 7), expected, strict=True)]
    batch = data.gather(range(len(IDS)))
    logits = torch.from_numpy(np.random.default_rng(1).standard_normal((len(IDS), 3))).float()
    found = calibrate(text_task, data, expected).losses(logits, batch).tolist()
    assert found == pytest.approx(weighted_losses(logits.tolist(), list(IDS), ratios), rel=1e-5)


def test_nothing_but_the_loss_differs(text_task: TaskModel[Any]) -> None:
    data = some_texts(text_task)
    calibrated, batch = calibrate(text_task, data, (0.5, 0.25, 0.25)), data.gather(range(4))
    assert isinstance(calibrated, CalibratedTask)
    with torch.inference_mode():
        logits = text_task.logits(batch)
        assert torch.equal(calibrated.logits(batch), logits)
    assert calibrated.count_correct(logits, batch) == text_task.count_correct(logits, batch)
    for name in ("model", "training", "new_parameters", "folder", "model_type", "evaluation_batch"):
        assert getattr(calibrated, name) is getattr(text_task, name)
    assert calibrated.encode(TextExamples(texts=("a",), label_ids=(1,), left_out=0)).label_ids == [1]
    assert calibrated.worst_case(2, data).labels.shape == (2,)


def test_a_site_whose_labels_are_as_expected_has_the_plain_loss(text_task: TaskModel[Any]) -> None:
    data = some_texts(text_task)
    batch, logits = data.gather(range(3)), torch.arange(9.0).reshape(3, 3)
    calibrated = CalibratedTask(text_task, (5 / 7, 1 / 7, 1 / 7), (5 / 7, 1 / 7, 1 / 7))
    assert torch.allclose(calibrated.losses(logits, batch), text_task.losses(logits, batch), atol=1e-6)


@pytest.mark.parametrize("label_ids", [(0, 2) * 4, (1,) * 8])
def test_a_class_that_a_site_lacks_is_not_unlearnt_there(text_task: TaskModel[Any], label_ids: tuple[int, ...]) -> None:
    """Its logit has no gradient, where the plain loss pushes it down; with one class alone nothing has any."""
    data = text_task.encode(TextExamples(texts=("the hose",) * 8, label_ids=label_ids, left_out=0))
    batch, absent = data.gather(range(8)), sorted({0, 1, 2} - set(label_ids))
    pushes = []
    for task in (text_task, calibrate(text_task, data, (1 / 3, 1 / 3, 1 / 3))):
        logits = torch.tensor([[0.0, 3.0, 50.0]]).repeat(8, 1).requires_grad_()
        losses = task.losses(logits, batch)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert losses.isfinite().all()
        pushes.append(logits.grad)
    assert (pushes[0][:, absent] > 0).all()
    assert not pushes[1][:, absent].any()
    assert bool(pushes[1].any()) is (len(absent) == 1)


def test_without_frequencies_the_task_stays_as_it_is(text_task: TaskModel[Any]) -> None:
    assert calibrate(text_task, some_texts(text_task), ()) is text_task


def test_answers_have_no_classes_to_count(tmp_path: Path) -> None:
    task = load_task_model(write_tiny_llama(tmp_path), settings_of(Task.CAUSAL_LM))
    data = task.encode(AnswerExamples(texts=("the hose",), answers=("pump",), left_out=0))
    assert data.label_ids is None
    assert calibrate(task, data, (0.5, 0.5)) is task


def test_images_and_windows_have_classes_too() -> None:
    ids, three = np.asarray([2, 0, 2], np.int64), np.zeros(3, np.float32)
    pixels = np.zeros((3, 14, 14, 3), np.uint8)
    held: list[EncodedExamples] = [
        ScaledImages(pixels=pixels, label_ids=ids, mean=three, deviation=three + 1, tokens=1),
        SensorWindows(values=np.zeros((6, 2), np.float32), starts=np.arange(3), window=3, label_ids=ids, tokens=1),
    ]
    for data in held:
        assert data.label_ids is not None
        assert own_frequencies(data.label_ids, 3) == pytest.approx([1 / 3, 0, 2 / 3])


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=8))
def test_frequencies_are_counts_and_those_to_expect_have_one_more_of_each(counts: list[int]) -> None:
    ids, total = np.repeat(np.arange(len(counts)), counts), sum(counts)
    more = [(count + 1) / (total + len(counts)) for count in counts]
    assert frequencies_to_expect(ids, len(counts)) == pytest.approx(more)
    if total:
        assert own_frequencies(ids, len(counts)) == pytest.approx([count / total for count in counts])
