"""Images as the model takes them, and the sizes that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_settings import settings_of
from tiny_task_models import DINOV2_SIDE, write_tiny_dinov2
from transformers import AutoConfig, AutoModel

from ravan.data.images import ImageExamples
from ravan.errors import ConfigError, ModelError
from ravan.manifest.plan import Task
from ravan.tasks.images import ImageClassifier, load_image_classifier


def classifier(root: Path, **changes: Any) -> ImageClassifier:
    folder = root / "dinov2"
    return load_image_classifier(
        folder if folder.exists() else write_tiny_dinov2(folder), settings_of(Task.IMAGE_CLASSIFICATION, **changes)
    )


def test_pixels_are_scaled_by_hand(tmp_path: Path) -> None:
    task = classifier(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (3, DINOV2_SIDE, DINOV2_SIDE, 3), np.uint8)
    data = task.encode(ImageExamples(pixels=pixels, label_ids=(2, 0, 1), left_out=0))
    batch = data.gather([2, 0])
    values = batch.inputs["pixel_values"]
    assert values.shape == (2, 3, DINOV2_SIDE, DINOV2_SIDE)
    for position, row in enumerate((2, 0)):
        for colour, (mean, deviation) in enumerate(zip((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), strict=True)):
            expected = (float(pixels[row, 5, 7, colour]) / 255 - mean) / deviation
            assert float(values[position, colour, 5, 7]) == pytest.approx(expected, rel=1e-5)
    assert (batch.labels.tolist(), batch.rows.tolist(), batch.is_padded) == ([1, 2], [2, 0], False)
    assert data.lengths.tolist() == [(DINOV2_SIDE // 14) ** 2 + 1] * 3


def test_the_model_answers_for_every_label(tmp_path: Path) -> None:
    task = classifier(tmp_path, image_side=28)
    batch = task.worst_case(
        2, task.encode(ImageExamples(pixels=np.zeros((1, 28, 28, 3), np.uint8), label_ids=(0,), left_out=0))
    )
    with torch.no_grad():
        logits = task.logits(batch)
    assert logits.shape == (2, 3)
    wanted = torch.nn.functional.cross_entropy(logits, batch.labels)
    torch.testing.assert_close(task.losses(logits, batch).mean(), wanted)


@pytest.mark.parametrize(("asked", "side"), [(0, DINOV2_SIDE), (28, 28), (70, 70)])
def test_the_side_is_the_job_s_or_the_model_s_own(tmp_path: Path, asked: int, side: int) -> None:
    assert classifier(tmp_path, image_side=asked).training.image_side == side


@pytest.mark.parametrize(("asked", "nearest"), [(30, 28), (5, 14)])
def test_a_side_that_is_no_multiple_of_the_patch_is_refused_with_the_nearest(
    tmp_path: Path, asked: int, nearest: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        classifier(tmp_path, image_side=asked)
    assert caught.value.next_step == f"Set it to {nearest}."


def test_a_model_of_one_size_says_which(tmp_path: Path) -> None:
    folder = write_tiny_dinov2(tmp_path / "vit")
    config = AutoConfig.for_model(
        "vit",
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
    )
    AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigError) as caught:
        load_image_classifier(folder, settings_of(Task.IMAGE_CLASSIFICATION, image_side=40))
    assert caught.value.next_step == "Set it to 32."


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"image_mean": [0.5, 0.5], "image_std": [1, 1, 1]},
        {"image_mean": [0.5, 0.5, "x"], "image_std": [1, 1, 1]},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 0, 1]},
        {"image_mean": [0.5, 0.5, float("nan")], "image_std": [1, 1, 1]},
        {"image_mean": [10**400, 0, 0], "image_std": [1, 1, 1]},
    ],
    ids=["missing", "list", "empty", "short", "text", "zero", "nan", "huge"],
)
def test_a_broken_preprocessor_is_refused(tmp_path: Path, document: object) -> None:
    folder = write_tiny_dinov2(tmp_path / "dinov2")
    path = folder / "preprocessor_config.json"
    path.unlink() if document is None else path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError):
        classifier(tmp_path)
