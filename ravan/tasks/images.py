"""Images to classify: kept as bytes, scaled to the model's numbers a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ravan.data.images import ImageExamples
from ravan.errors import ConfigError, ErrorReason
from ravan.manifest.plan import Precision, TrainingSettings
from ravan.tasks.base_model import BaseModel, load_base_model, numbers_of, read_preprocessor, unusable
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel

_ANY_SIDE: Final = frozenset({"dinov2", "dinov2_with_registers", "dinov3_vit"})
"""Model types that fit their table of positions to the image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaledImages(EncodedExamples):
    """Labelled images of one size."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """(images, side, side, 3)."""
    label_ids: NDArray[np.int64] = field(repr=False)
    mean: NDArray[np.float32]
    """Of each colour, 0 to 1, over what the base model was trained on."""
    deviation: NDArray[np.float32]
    tokens: int
    """Tokens that the model computes for an image."""

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each image."""
        return np.full(len(self), self.tokens, np.int64)

    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:  # noqa: ARG002 - all are of one size
        """Return the chosen images."""
        values = (self.pixels[list(rows)].astype(np.float32) / 255 - self.mean) / self.deviation
        return Batch(
            inputs={"pixel_values": torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))},
            labels=torch.from_numpy(self.label_ids[list(rows)]),
            rows=torch.tensor(list(rows)),
        )


class ImageClassifier(TaskModel[ImageExamples]):
    """`AutoModelForImageClassification` with as many outputs as the job has labels."""

    def __init__(self, base: BaseModel, preprocessor: Mapping[str, Any], training: TrainingSettings) -> None:
        config = base.model.config
        side = training.image_side or _own_side(preprocessor) or int(config.image_size)
        _check_side(config, side)
        super().__init__(base, replace(training, image_side=side))
        self._mean = numbers_of(preprocessor, "image_mean", 3)
        self._deviation = numbers_of(preprocessor, "image_std", 3, positive=True)
        self._tokens = (side // int(config.patch_size)) ** 2 + 1

    def encode(self, examples: ImageExamples) -> ScaledImages:
        """Take over the images, which were read in the job's size."""
        return self._scaled(examples.pixels, np.asarray(examples.label_ids, np.int64))

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:  # noqa: ARG002 - all are of one size
        """Return noise."""
        generator, side = np.random.default_rng(0), self.training.image_side
        pixels = generator.integers(0, 256, (batch_size, side, side, 3), np.uint8)
        labels = generator.integers(0, len(self.training.labels), batch_size)
        return self._scaled(pixels, labels).gather(range(batch_size))

    def _scaled(self, pixels: NDArray[np.uint8], label_ids: NDArray[np.int64]) -> ScaledImages:
        return ScaledImages(
            pixels=pixels, label_ids=label_ids, mean=self._mean, deviation=self._deviation, tokens=self._tokens
        )


def load_image_classifier(
    folder: Path, training: TrainingSettings, precision: Precision = Precision.FLOAT32
) -> ImageClassifier:
    """Build the model; raise ModelError, or ConfigError for images of a size that it cannot take."""
    from transformers import AutoModelForImageClassification  # noqa: PLC0415 - takes seconds to import

    base = load_base_model(AutoModelForImageClassification, folder, precision, num_labels=len(training.labels))
    return ImageClassifier(base, read_preprocessor(folder), training)


def _own_side(preprocessor: Mapping[str, Any]) -> int:
    """Return the side of the images that the base model was trained on, 0 where its preprocessor does not say."""
    for key in ("crop_size", "size"):
        size = preprocessor.get(key)
        side = size.get("height", size.get("shortest_edge")) if isinstance(size, Mapping) else size
        if type(side) is int and side > 0:
            return side
    return 0


def _check_side(config: Any, side: int) -> None:
    patch, own = getattr(config, "patch_size", None), getattr(config, "image_size", None)
    if type(patch) is not int or type(own) is not int:
        raise unusable(f"a '{config.model_type}' model does not cut square images into square patches")
    if config.model_type not in _ANY_SIDE and side != own:
        raise _wrong_side(side, f"a '{config.model_type}' model takes images of one size", f"Set it to {own}.")
    if side % patch:
        nearest = max(patch, round(side / patch) * patch)
        raise _wrong_side(side, f"the model cuts images into patches of {patch} pixels", f"Set it to {nearest}.")


def _wrong_side(side: int, why: str, next_step: str) -> ConfigError:
    return ConfigError(
        f"[training] image_side = {side} does not fit: {why}.", reason=ErrorReason.CONFIG_INVALID, next_step=next_step
    )
