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
from ravan.tasks.task_model import TaskModel
from ravan.tasks.wrapped_task import WrappedTask


class KeptLayersTask(WrappedTask):
    """Another task's model, with outputs of its lower layers kept by row.

    The task within is the same model without the cache, for whoever trains all of it.
    """

    def __init__(self, inner: TaskModel[Any], layers: Sequence[nn.Module], examples: int, room_bytes: int) -> None:
        """Take layers that nothing trains, from the bottom up, and how many rows there are."""
        super().__init__(inner)
        self._lower = LowerPart(inner, layers, examples, room_bytes)

    @property
    def kept(self) -> int:
        """Return for how many rows there are outputs."""
        return self._lower.kept

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits, bit for bit those without the cache."""
        return self._lower.logits(batch)
