"""A kept version on its base model, asked for labels or answers; nothing here needs a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from edge_agent.serving.kept import KeptModel
from ravan.adapters.model import inject
from ravan.adapters.planned_bases import planned_bases
from ravan.adapters.state import decode_state
from ravan.data.unlabelled import Questions
from ravan.tasks.answers import AnswerModel
from ravan.tasks.loading import load_task_model
from ravan.tasks.passes import pass_over

if TYPE_CHECKING:
    from edge_agent.serving.base_files import BaseFiles
    from ravan.tasks.task_model import TaskModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model says of one example."""

    place: str
    """A row's number, or an image's name."""
    label: str
    """The likeliest label, or the answer; empty where there is nothing to say."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """By label, in the job's order; empty for answers."""
    fault: str = ""
    """Why there is nothing to say of it."""


class Predictor:
    """One model in memory; not to be asked by two threads at once."""

    def __init__(self, kept: KeptModel, files: BaseFiles) -> None:
        """Load the base model and put it into the kept version; raise ModelError or TransferError."""
        self.kept = kept
        self._files = files
        state = kept.read_state()
        self.task: TaskModel[Any] = load_task_model(files.folder, kept.plan.training, kept.plan.precision)
        self.put(state)

    def put(self, state: bytes) -> None:
        """Put the model into another state, given as `encode_state`'s bytes; raise TransferError."""
        plan, blocks = self.kept.plan, decode_state(self.kept.plan, state)
        with torch.inference_mode():
            inject(self.task.model, plan, blocks, frozenset(), planned_bases(plan, self._files.bases))

    def follow(self, kept: KeptModel, own: bytes | None = None) -> None:
        """Go on with another version of the same plan, or the PC's `own` state on top of it; the base model stays."""
        self.put(kept.read_state() if own is None else own)
        self.kept = kept

    def answer(self, questions: Questions) -> list[Prediction]:
        """Return one prediction for each question, in their order."""
        said = iter(self._say(questions))
        return [
            Prediction(place=place, label="", fault=questions.faults[position])
            if position in questions.faults
            else _placed(place, *next(said))
            for position, place in enumerate(questions.places)
        ]

    def _say(self, questions: Questions) -> list[tuple[str, Mapping[str, float]]]:
        if questions.examples is None:
            return []
        if isinstance(self.task, AnswerModel):
            return [(self.task.answer(text), {}) for text in questions.examples.texts]  # type: ignore[union-attr]
        labels = self.kept.plan.training.labels
        return [
            (labels[max(range(len(row)), key=row.__getitem__)], dict(zip(labels, row, strict=True)))
            for row in self._probabilities(questions).tolist()
        ]

    def _probabilities(self, questions: Questions) -> torch.Tensor:
        """Return (examples, labels) in float64."""
        data = self.task.encode(questions.examples)
        found = torch.empty(len(data), len(self.kept.plan.training.labels), dtype=torch.float64)
        with torch.inference_mode():
            for batch in pass_over(self.task, data):
                found[batch.rows] = self.task.logits(batch).double().softmax(1)
        return found


def _placed(place: str, label: str, probabilities: Mapping[str, float]) -> Prediction:
    return Prediction(place=place, label=label, probabilities=probabilities)
