"""One pass over examples where nothing is trained; headquarters scores, and sites use, a model in the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a model is on examples."""

    accuracy: float
    """Share of right answers, 0 to 1."""
    loss: float
    """Mean cross-entropy in nats."""
    examples: int


def measure(task: TaskModel[Any], data: EncodedExamples) -> Score:
    """Score a model as it stands; losses are added up in float64."""
    right, loss = 0, 0.0
    for batch in pass_over(task, data):
        logits = task.logits(batch).double()
        right += task.count_correct(logits, batch)
        loss += float(task.losses(logits, batch).sum())
    return Score(accuracy=right / len(data), loss=loss / len(data), examples=len(data))


def pass_over(task: TaskModel[Any], data: EncodedExamples) -> Iterator[Batch]:
    """Yield every example once, neighbours in length together, so that little is padding."""
    order = sorted(range(len(data)), key=data.lengths.tolist().__getitem__)
    for start in range(0, len(order), task.evaluation_batch):
        yield data.gather(order[start : start + task.evaluation_batch])
