"""What a job takes that does not say it: what suited its task in the laboratory (docs/accuracy/README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ravan.manifest.plan import BasisKind, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefaults:
    """Learning rates of the heads and of the new classifier, and where the heads' bases come from."""

    learning_rate: float
    dense_learning_rate: float
    basis: BasisKind


TASK_DEFAULTS: Final[Mapping[Task, TaskDefaults]] = {
    Task.SEQUENCE_CLASSIFICATION: TaskDefaults(learning_rate=1e-2, dense_learning_rate=2e-2, basis=BasisKind.ALIGNED),
    Task.IMAGE_CLASSIFICATION: TaskDefaults(learning_rate=1e-2, dense_learning_rate=1e-3, basis=BasisKind.ALIGNED),
    # Held-out windows of a few machines point too narrowly.
    Task.SERIES_CLASSIFICATION: TaskDefaults(
        learning_rate=3e-3, dense_learning_rate=1e-3, basis=BasisKind.GRAM_SCHMIDT
    ),
    # Not measured: what the example has always run with.
    Task.CAUSAL_LM: TaskDefaults(learning_rate=5e-3, dense_learning_rate=2e-2, basis=BasisKind.ALIGNED),
}
