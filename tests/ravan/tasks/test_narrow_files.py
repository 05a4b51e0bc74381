"""Weights that are narrow in their file are taken as they are for a narrow job, and give the same as by float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from task_settings import settings_of
from tiny_task_models import FOLDERS, NoExamples
from torch import Tensor

from ravan.manifest.plan import Precision, Task
from ravan.tasks import base_model
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel

NARROW = [Precision.BFLOAT16, Precision.INT8]
FILE = "model.safetensors"


def store_as(folder: Path, dtype: torch.dtype) -> Path:
    tensors = load_file(folder / FILE)
    narrow = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    save_file(narrow, folder / FILE, metadata={"format": "pt"})
    return folder


def contents(task: TaskModel[object]) -> dict[str, Tensor]:
    new = {name for name, _ in task.new_parameters}
    model = task.model
    return {name: value for name, value in (*model.named_parameters(), *model.named_buffers()) if name not in new}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """In which types models were built."""
    types: list[torch.dtype] = []
    build = base_model._build

    def noted(loader: object, folder: Path, dtype: torch.dtype, options: dict[str, object]) -> object:
        types.append(dtype)
        return build(loader, folder, dtype, options)

    monkeypatch.setattr(base_model, "_build", noted)
    return types


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", Task)
def test_the_same_model_comes_of_it(
    tmp_path: Path,
    built: list[torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
    task: Task,
    stored: torch.dtype,
    precision: Precision,
) -> None:
    folder, settings = store_as(FOLDERS[task](tmp_path / "model"), stored), settings_of(task)
    found = load_task_model(folder, settings, precision)
    assert built == [stored]
    monkeypatch.setattr(base_model, "_stored_type", lambda _: torch.float32)
    expected = load_task_model(folder, settings, precision)
    values = contents(expected)
    assert contents(found).keys() == values.keys()
    for name, value in contents(found).items():
        assert value.dtype is values[name].dtype, name
        assert torch.equal(value, values[name]), name
    with torch.no_grad():
        for name, _ in found.new_parameters:
            assert found.model.get_parameter(name).dtype is torch.float32
            expected.model.get_parameter(name).copy_(found.model.get_parameter(name))
        batch = found.worst_case(4, NoExamples)  # type: ignore[arg-type]
        assert torch.equal(found.logits(batch), expected.logits(batch))


def test_a_job_in_float32_gets_float32(tmp_path: Path, built: list[torch.dtype]) -> None:
    task = Task.SEQUENCE_CLASSIFICATION
    loaded = load_task_model(store_as(FOLDERS[task](tmp_path / "model"), torch.bfloat16), settings_of(task))
    assert built == [torch.float32]
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_file_of_several_types_is_widened_first(tmp_path: Path, built: list[torch.dtype]) -> None:
    task = Task.SEQUENCE_CLASSIFICATION
    folder = FOLDERS[task](tmp_path / "model")
    tensors = load_file(folder / FILE)
    first = min(tensors)
    save_file({**tensors, first: tensors[first].bfloat16()}, folder / FILE, metadata={"format": "pt"})
    load_task_model(folder, settings_of(task), Precision.BFLOAT16)
    assert built == [torch.float32]


def test_what_a_model_computes_while_it_is_built_is_not_left_narrow(
    tmp_path: Path, built: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "_widen_buffers", lambda *_: False)
    task = Task.SEQUENCE_CLASSIFICATION
    folder = store_as(FOLDERS[task](tmp_path / "model"), torch.bfloat16)
    load_task_model(folder, settings_of(task), Precision.BFLOAT16)
    assert built == [torch.bfloat16, torch.float32]
