"""Folders become the model of a job's task, or are refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from task_settings import settings_of
from tiny_jobs import ROWS
from tiny_task_models import FOLDERS, NoExamples

from ravan.data.texts import TextExamples
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import Precision, Task
from ravan.tasks.loading import load_task_model
from ravan.tasks.texts import TextClassifier
from simulation.tiny_text_model import HIDDEN, write_tiny_model

NEW = {
    Task.SEQUENCE_CLASSIFICATION: {"classifier.weight": (3, HIDDEN), "classifier.bias": (3,)},
    # The classifier sees the class token beside the mean of the patches.
    Task.IMAGE_CLASSIFICATION: {"classifier.weight": (3, 32), "classifier.bias": (3,)},
    Task.SERIES_CLASSIFICATION: {"head.linear.weight": (3, 32), "head.linear.bias": (3,)},
    Task.CAUSAL_LM: {},
}


@pytest.mark.parametrize("task", Task)
def test_each_task_builds_its_model_and_knows_what_is_new(tmp_path: Path, task: Task) -> None:
    loaded = load_task_model(FOLDERS[task](tmp_path / "model"), settings_of(task))
    assert dict(loaded.new_parameters) == NEW[task]
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_narrow_models_of_each_task_give_losses_in_float32(tmp_path: Path, task: Task, precision: Precision) -> None:
    folder = FOLDERS[task](tmp_path / "model")
    wide, narrow = (load_task_model(folder, settings_of(task), each) for each in (Precision.FLOAT32, precision))
    batch = wide.worst_case(4, NoExamples)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.manual_seed(0)
        for name, _ in wide.new_parameters:
            value = torch.randn(wide.model.get_parameter(name).shape)
            wide.model.get_parameter(name).copy_(value)
            narrow.model.get_parameter(name).copy_(value)
        expected, found = (each.losses(each.logits(batch), batch) for each in (wide, narrow))
    assert found.dtype is torch.float32
    assert not torch.equal(found, expected), "nothing was rounded"
    torch.testing.assert_close(found, expected, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("other", Task)
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, task: Task, other: Task) -> None:
    kinds = {task, other}
    if task is other or kinds == {Task.SEQUENCE_CLASSIFICATION, Task.CAUSAL_LM}:
        # A language model can be made to classify; the other way round it cannot.
        kinds.discard(Task.SEQUENCE_CLASSIFICATION)
        if task is not Task.CAUSAL_LM or task is other:
            load_task_model(FOLDERS[other](tmp_path / "model"), settings_of(task))
            return
    with pytest.raises(ModelError) as caught:
        load_task_model(FOLDERS[other](tmp_path / "model"), settings_of(task))
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (Task.IMAGE_CLASSIFICATION, {"patch_size": 0}),
        (Task.IMAGE_CLASSIFICATION, {"num_attention_heads": 0}),
        (Task.SERIES_CLASSIFICATION, {"patch_stride": 0}),
        (Task.SERIES_CLASSIFICATION, {"num_input_channels": -1}),
        (Task.CAUSAL_LM, {"num_attention_heads": 0}),
        (Task.SEQUENCE_CLASSIFICATION, {"hidden_size": "wide"}),
        (Task.SEQUENCE_CLASSIFICATION, {"model_type": "nothing"}),
    ],
)
def test_a_senseless_configuration_is_refused(tmp_path: Path, task: Task, changes: dict[str, object]) -> None:
    path = FOLDERS[task](tmp_path / "model") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(ModelError):
        load_task_model(tmp_path / "model", settings_of(task))


def test_texts_become_token_ids_in_file_order(tmp_path: Path) -> None:
    task = load_task_model(write_tiny_model(tmp_path), settings_of(Task.SEQUENCE_CLASSIFICATION, max_length=4))
    assert isinstance(task, TextClassifier)
    data = task.encode(TextExamples(texts=tuple(t for t, _ in ROWS), label_ids=tuple(range(len(ROWS))), left_out=0))
    tokenizer = task._tokenizer
    expected = [tokenizer(text, truncation=True, max_length=4)["input_ids"] for text, _ in ROWS]
    assert [data.texts.row(i).tolist() for i in range(len(data))] == expected
    assert {len(row) for row in expected} == {4}
    assert data.label_ids.tolist() == list(range(len(ROWS)))


def test_texts_of_different_lengths_keep_their_own(tmp_path: Path) -> None:
    task = load_task_model(write_tiny_model(tmp_path), settings_of(Task.SEQUENCE_CLASSIFICATION))
    texts = ("hose", "the cab door the cab door", "leak")
    data = task.encode(TextExamples(texts=texts, label_ids=(0, 1, 2), left_out=0))
    assert data.lengths.tolist() == [3, 8, 3]
