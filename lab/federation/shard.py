"""Some rows of a task's examples, which are encoded once for all clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shard(EncodedExamples):
    """What one client holds."""

    whole: EncodedExamples
    rows: Rows = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Rows:
        """Return the tokens of each example."""
        return self.whole.lengths[self.rows]

    @property
    def label_ids(self) -> Rows | None:
        """Return the class of each example."""
        whole = self.whole.label_ids
        return None if whole is None else whole[self.rows]

    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:
        """Return the chosen examples of the shard."""
        return self.whole.gather(self.rows[list(rows)].tolist(), length=length)
