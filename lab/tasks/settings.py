"""Training settings in the product's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ravan.manifest.plan import Optimiser, Task, TrainingSettings


def classification(task: Task, labels: Sequence[str], *, max_length: int = 32, image_side: int = 0) -> TrainingSettings:
    """Return the settings of a classification job; steps, batches and rates are each run's own."""
    return _settings(task=task, labels=tuple(labels), max_length=max_length, image_side=image_side)


def answering(prompt: str, *, max_length: int) -> TrainingSettings:
    """Return the settings of a job for a causal language model; steps, batches and rates are each run's own."""
    return _settings(task=Task.CAUSAL_LM, labels=(), prompt=prompt, max_length=max_length)


def _settings(**those_of_the_task: Any) -> TrainingSettings:
    return TrainingSettings(
        data="lab",
        batch_size=1,
        steps=1,
        optimiser=Optimiser.ADAMW,
        learning_rate=1e-3,
        dense_learning_rate=1e-2,
        weight_decay=0.0,
        **those_of_the_task,
    )
