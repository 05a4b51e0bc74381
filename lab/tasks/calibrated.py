"""A client's view of a task: the same model, with a loss that knows the client's label frequencies."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from torch import Tensor

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel


class Calibration(StrEnum):
    """What is added to the logits while a client trains."""

    NONE = "none"
    LOCAL = "local"
    """Log frequencies of the client's labels: the model learns as if all classes were equally frequent."""
    RELATIVE = "relative"
    """Less those of all clients' labels together, which a sum under masks gives: it learns the fleet's frequencies."""


class CalibratedTask(TaskModel[Any]):
    """Another task with shifted logits in its loss, and nowhere else."""

    def __init__(self, inner: TaskModel[Any], shift: Tensor) -> None:
        """Take what is added to each class's logit."""
        self.inner, self.shift = inner, shift
        self.model, self.new_parameters = inner.model, inner.new_parameters
        self.folder, self.training, self.model_type = inner.folder, inner.training, inner.model_type

    def encode(self, examples: Any) -> EncodedExamples:
        """Encode as the other task does."""
        return self.inner.encode(examples)

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        """Return the other task's."""
        return self.inner.worst_case(batch_size, data)

    def logits(self, batch: Batch) -> Tensor:
        """Return the other task's."""
        return self.inner.logits(batch)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the other task's losses of shifted logits."""
        return self.inner.losses(logits + self.shift, batch)

    def count_correct(self, logits: Tensor, batch: Batch) -> int:
        """Return the other task's."""
        return self.inner.count_correct(logits, batch)
