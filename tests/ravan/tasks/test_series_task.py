"""Windows of sensor values as the model takes them; the model says which channels, how long, how scaled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from task_settings import settings_of
from tiny_task_models import WINDOW, write_tiny_dinov2, write_tiny_patchtst

from ravan.data.series import SeriesExamples
from ravan.errors import ModelError
from ravan.manifest.plan import Task, TrainingSettings
from ravan.tasks.series import load_series_classifier

SETTINGS: TrainingSettings = settings_of(Task.SERIES_CLASSIFICATION)


def test_the_model_decides_channels_and_window(tmp_path: Path) -> None:
    training = load_series_classifier(write_tiny_patchtst(tmp_path), SETTINGS).training
    assert (training.channels, training.max_length, training.window_step) == (("oil", "rpm"), WINDOW, 1)


def test_windows_are_sliced_and_scaled_by_hand(tmp_path: Path) -> None:
    task = load_series_classifier(write_tiny_patchtst(tmp_path), SETTINGS)
    values = np.random.default_rng(2).normal(size=(20, 2)).astype(np.float32)
    starts = np.array([0, 5, 12])
    data = task.encode(SeriesExamples(values=values, starts=starts, window=WINDOW, label_ids=(0, 2, 1), left_out=0))
    batch = data.gather([2, 1])
    for position, row in enumerate((2, 1)):
        slow = [
            [(float(values[starts[row] + cycle, 0]) - 1) / 3, (float(values[starts[row] + cycle, 1]) - 2) / 4]
            for cycle in range(WINDOW)
        ]
        np.testing.assert_allclose(batch.inputs["past_values"][position], slow, rtol=1e-5)
    assert (batch.labels.tolist(), batch.rows.tolist()) == ([1, 2], [2, 1])
    assert data.lengths.tolist() == [2 * WINDOW // 4] * 3


def test_the_model_answers_for_every_label(tmp_path: Path) -> None:
    task = load_series_classifier(write_tiny_patchtst(tmp_path), SETTINGS)
    empty = SeriesExamples(
        values=np.zeros((WINDOW, 2), np.float32),
        starts=np.zeros(1, np.int64),
        window=WINDOW,
        label_ids=(0,),
        left_out=0,
    )
    batch = task.worst_case(5, task.encode(empty))
    with torch.no_grad():
        assert task.logits(batch).shape == (5, 3)
    assert {name.partition(".")[0] for name, _ in task.new_parameters} == {"head"}


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ["oil"]},
        {"channels": ["oil", "oil"]},
        {"channels": "oil"},
        {"channels": ["oil", "r\x07pm"]},
        {"channels": ["oil", "x" * 201]},
        {"mean": [1.0]},
        {"std": [1.0, -1.0]},
    ],
)
def test_a_broken_preprocessor_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = write_tiny_patchtst(tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(ModelError):
        load_series_classifier(folder, SETTINGS)


def test_a_model_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'dinov2' model takes no windows"):
        load_series_classifier(write_tiny_dinov2(tmp_path), SETTINGS)
