"""A task that is another one but for what a subclass says."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel


class WrappedTask(TaskModel[Any]):
    """Hand everything on to the task within; both have one model."""

    def __init__(self, inner: TaskModel[Any]) -> None:
        self.inner = inner
        self.model, self.new_parameters = inner.model, inner.new_parameters
        self.folder, self.training, self.model_type = inner.folder, inner.training, inner.model_type
        self.evaluation_batch = inner.evaluation_batch

    def encode(self, examples: Any) -> EncodedExamples:
        """Encode as the task within does."""
        return self.inner.encode(examples)

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        """Return the batch of the task within."""
        return self.inner.worst_case(batch_size, data)

    def logits(self, batch: Batch) -> Tensor:
        """Return the logits of the task within."""
        return self.inner.logits(batch)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the losses of the task within."""
        return self.inner.losses(logits, batch)

    def count_correct(self, logits: Tensor, batch: Batch) -> int:
        """Count as the task within does."""
        return self.inner.count_correct(logits, batch)
