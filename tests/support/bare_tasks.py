"""Text tasks around models that come from no folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from ravan.manifest.plan import TrainingSettings
from ravan.tasks.base_model import BaseModel
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel
from ravan.tasks.texts import TokenisedTexts, TokenRows, noisy_texts


class BareTask(TaskModel[Never]):
    """Classify random token ids of a vocabulary."""

    def __init__(self, model: Any, training: TrainingSettings, vocabulary: int = 0) -> None:
        super().__init__(BaseModel(model=model, new_parameters=(), folder=Path()), training)
        self._vocabulary = vocabulary

    def encode(self, examples: Never) -> EncodedExamples:
        return examples

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        return noisy_texts(batch_size, self.training.max_length, self._vocabulary, len(self.training.labels))


def token_texts(tokens: NDArray[Any], lengths: NDArray[Any], label_ids: NDArray[Any], pad_id: int) -> TokenisedTexts:
    """Return texts of these lengths, whose token ids follow each other."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = TokenRows(tokens=tokens.astype(np.int32), starts=starts)
    return TokenisedTexts(texts=rows, label_ids=label_ids, pad_id=pad_id)
