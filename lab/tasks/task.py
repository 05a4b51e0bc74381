"""A task of the laboratory: a base model, examples to deal, others to choose by, and others to judge by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.federation.shard import Shard
from lab.tasks.kept_layers import KeptLayersTask
from ravan.tasks.task_model import EncodedExamples, TaskModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabTask:
    """Everything of a task that no seed changes."""

    name: str
    task: TaskModel[Any]
    pool: EncodedExamples
    """Examples that clients train on."""
    owners: NDArray[np.int64] = field(repr=False)
    """Whom each of the pool's examples belongs to in reality."""
    labels: NDArray[np.int64] = field(repr=False)
    """Class of each of the pool's examples."""
    validation: EncodedExamples
    """Examples that learning rates are chosen by."""
    test: EncodedExamples
    """Examples that no rate is chosen by, and that no run learns from."""
    targets: tuple[str, ...]
    """Which layers are adapted."""

    @property
    def trainable(self) -> TaskModel[Any]:
        """The task for whoever trains the whole model: without outputs of layers that are kept as long as they rest."""
        return self.task.inner if isinstance(self.task, KeptLayersTask) else self.task

    @property
    def held_out(self) -> Shard:
        """Headquarters' examples, as a client would hold them."""
        return Shard(whole=self.validation, rows=np.arange(len(self.validation)))

    def shard(self, rows: NDArray[np.int64]) -> Shard:
        """Return a client's part of the pool."""
        return Shard(whole=self.pool, rows=rows)
