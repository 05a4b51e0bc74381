"""Windows of sensor values to classify.

The base model's `preprocessor_config.json` names its channels, in order, and gives mean and standard deviation of each
over what it was trained on, so that all sites scale alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravan.data.series import SeriesExamples
from ravan.manifest.plan import Precision, TrainingSettings
from ravan.tasks.base_model import TRUSTED, BaseModel, load_base_model, numbers_of, read_preprocessor, unusable
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel

_CHANNEL: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SensorWindows(EncodedExamples):
    """Labelled windows over scaled values."""

    values: NDArray[np.float32] = field(repr=False)
    """(rows, channels)."""
    starts: NDArray[np.int64] = field(repr=False)
    """First row of each window."""
    window: int
    """Rows of a window."""
    label_ids: NDArray[np.int64] = field(repr=False)
    tokens: int
    """Tokens that the model computes for a window."""

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each window."""
        return np.full(len(self), self.tokens, np.int64)

    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:  # noqa: ARG002 - all are of one size
        """Return the chosen windows."""
        chosen = list(rows)
        places = self.starts[chosen][:, None] + np.arange(self.window)  # (batch, window)
        return Batch(
            inputs={"past_values": torch.from_numpy(self.values[places])},  # (batch, window, channels)
            labels=torch.from_numpy(self.label_ids[chosen]),
            rows=torch.tensor(chosen),
        )


class SeriesClassifier(TaskModel[SeriesExamples]):
    """`PatchTSTForClassification` with as many outputs as the job has labels."""

    def __init__(self, base: BaseModel, preprocessor: Mapping[str, Any], training: TrainingSettings) -> None:
        config = base.model.config
        channels = _channels(preprocessor, int(config.num_input_channels))
        step = training.window_step or 1
        super().__init__(
            base, replace(training, channels=channels, max_length=int(config.context_length), window_step=step)
        )
        self._mean = numbers_of(preprocessor, "mean", len(channels))
        self._deviation = numbers_of(preprocessor, "std", len(channels), positive=True)
        patches = (int(config.context_length) - int(config.patch_length)) // int(config.patch_stride) + 1
        self._tokens = len(channels) * patches

    def encode(self, examples: SeriesExamples) -> SensorWindows:
        """Scale the values of each channel."""
        return SensorWindows(
            values=(examples.values - self._mean) / self._deviation,
            starts=examples.starts,
            window=examples.window,
            label_ids=np.asarray(examples.label_ids, np.int64),
            tokens=self._tokens,
        )

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:  # noqa: ARG002 - all are of one size
        """Return noise."""
        generator, window = np.random.default_rng(0), self.training.max_length
        shape = (batch_size * window, len(self.training.channels))
        noise = SensorWindows(
            values=generator.standard_normal(shape, np.float32),
            starts=np.arange(batch_size, dtype=np.int64) * window,
            window=window,
            label_ids=generator.integers(0, len(self.training.labels), batch_size),
            tokens=self._tokens,
        )
        return noise.gather(range(batch_size))

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's outputs, (batch, classes)."""
        logits: Tensor = self.model(**batch.inputs).prediction_logits
        return logits.float()


def load_series_classifier(
    folder: Path, training: TrainingSettings, precision: Precision = Precision.FLOAT32
) -> SeriesClassifier:
    """Build the model; raise ModelError."""
    from transformers import AutoConfig, PatchTSTForClassification  # noqa: PLC0415 - takes seconds to import

    kind = AutoConfig.from_pretrained(folder, **TRUSTED).model_type
    if kind != "patchtst":
        raise unusable(f"a '{kind}' model takes no windows of sensor values, a 'patchtst' model does")
    base = load_base_model(PatchTSTForClassification, folder, precision, num_targets=len(training.labels))
    return SeriesClassifier(base, read_preprocessor(folder), training)


def _channels(preprocessor: Mapping[str, Any], count: int) -> tuple[str, ...]:
    names = preprocessor.get("channels")
    if isinstance(names, list) and all(isinstance(name, str) and _CHANNEL.fullmatch(name) for name in names):
        found = tuple(dict.fromkeys(names))
        if len(names) == len(found) == count:
            return found
    raise unusable(f"'channels' in its preprocessor_config.json is no list of {count} different names")
