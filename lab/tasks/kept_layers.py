"""A task whose lower layers no adapter reaches: what they give for an image is computed once, for all runs.

It is the agent's own cache of a round (`edge_agent.training.lower_part`), kept for as long as the process lives, and as
exact: its trial compares bits before anything is answered from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from edge_agent.training.lower_part import LowerPart
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel


class KeptLayersTask(TaskModel[Any]):
    """Another task's model, with outputs of its lower layers kept by row."""

    def __init__(self, inner: TaskModel[Any], layers: Sequence[nn.Module], examples: int, room_bytes: int) -> None:
        """Take layers that nothing trains, from the bottom up, and how many rows there are."""
        self.inner = inner
        """The same model without the cache, for whoever trains all of it."""
        self.model, self.new_parameters = inner.model, inner.new_parameters
        self.folder, self.training, self.model_type = inner.folder, inner.training, inner.model_type
        self._lower = LowerPart(inner, layers, examples, room_bytes)

    @property
    def kept(self) -> int:
        """Return for how many rows there are outputs."""
        return self._lower.kept

    def encode(self, examples: Any) -> EncodedExamples:
        """Encode as the other task does."""
        return self.inner.encode(examples)

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        """Return the other task's."""
        return self.inner.worst_case(batch_size, data)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits, bit for bit those without the cache."""
        return self._lower.logits(batch)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the other task's."""
        return self.inner.losses(logits, batch)

    def count_correct(self, logits: Tensor, batch: Batch) -> int:
        """Return the other task's."""
        return self.inner.count_correct(logits, batch)
