"""From a base model's folder to the model of a job's task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ravan.adapters.precision import apply_precision
from ravan.errors import RavanError
from ravan.manifest.plan import Precision, Task, TrainingSettings
from ravan.tasks.answers import load_answer_model
from ravan.tasks.base_model import unusable
from ravan.tasks.images import load_image_classifier
from ravan.tasks.series import load_series_classifier
from ravan.tasks.task_model import TaskModel
from ravan.tasks.texts import load_text_classifier

_LOADERS: Final[Mapping[Task, Callable[[Path, TrainingSettings, Precision], TaskModel[Any]]]] = {
    Task.SEQUENCE_CLASSIFICATION: load_text_classifier,
    Task.IMAGE_CLASSIFICATION: load_image_classifier,
    Task.SERIES_CLASSIFICATION: load_series_classifier,
    Task.CAUSAL_LM: load_answer_model,
}


def load_task_model(
    folder: Path, training: TrainingSettings, precision: Precision = Precision.FLOAT32
) -> TaskModel[Any]:
    """Build the model of a job's task in evaluation mode, its weights in `precision` and its new parameters in float32.

    Raise ModelError MODEL_INVALID for a folder that is no model of that kind, and ConfigError CONFIG_INVALID for
    settings that do not suit it.
    """
    try:
        task = _LOADERS[training.task](folder, training, precision)
    except RavanError:
        raise
    # What the library stumbles over in a foreign configuration can be anything.
    except Exception as error:
        raise unusable(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}") from None
    apply_precision(task.model, precision, [name for name, _ in task.new_parameters])
    return task
