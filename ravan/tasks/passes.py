"""One pass over examples where nothing is trained; headquarters scores, and sites use, a model in the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel


def pass_over(task: TaskModel[Any], data: EncodedExamples) -> Iterator[Batch]:
    """Yield every example once, neighbours in length together, so that little is padding."""
    order = sorted(range(len(data)), key=data.lengths.tolist().__getitem__)
    for start in range(0, len(order), task.evaluation_batch):
        yield data.gather(order[start : start + task.evaluation_batch])
