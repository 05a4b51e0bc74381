"""What every task gives: batches of its examples, outputs for a batch, and what is right about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ravan.manifest.plan import TrainingSettings
from ravan.tasks.base_model import BaseModel
from ravan.tasks.batch import Batch

RawExamples = TypeVar("RawExamples")


class EncodedExamples(ABC):
    """A site's examples in a form that batches are made from."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Return how many tokens the model computes for each example."""

    @property
    def label_ids(self) -> NDArray[np.int64] | None:
        """Return the class of each example; None where examples have answers instead."""
        return None

    @abstractmethod
    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:
        """Return the chosen examples, padded to the longest of them and to `length` at least."""


class TaskModel(ABC, Generic[RawExamples]):
    """A base model built for a job's task."""

    evaluation_batch: int = 64
    """Examples per forward pass where nothing is trained."""

    def __init__(self, base: BaseModel, training: TrainingSettings) -> None:
        self.model: nn.Module = base.model
        self.new_parameters = base.new_parameters
        """(name, shape) of the parameters that have no value of their own and are trained whole."""
        self.folder = base.folder
        """The base model's files."""
        self.training = training
        """The job's settings, with what the model decides filled in."""
        self.model_type: str = base.model.config.model_type

    @abstractmethod
    def encode(self, examples: RawExamples) -> EncodedExamples:
        """Turn examples into numbers; raise DataError for one that cannot be."""

    @abstractmethod
    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        """Return a batch of noise as dear as can come of data like this."""

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's outputs in float32: (batch, classes), or (batch, kept tokens, vocabulary)."""
        outputs: Any = self.model(**batch.inputs)
        logits: Tensor = outputs.logits
        return logits.float()

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of each example in nats, (batch,)."""
        return cross_entropy(logits, batch.labels, reduction="none")

    def count_correct(self, logits: Tensor, batch: Batch) -> int:
        """Return how many examples the model gets right."""
        return int((logits.argmax(1) == batch.labels).sum())
