"""Texts to classify: token ids in two flat arrays that take little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ravan.data.texts import TextExamples
from ravan.errors import ConfigError, ErrorReason
from ravan.manifest.plan import Precision, TrainingSettings
from ravan.tasks.base_model import TRUSTED, BaseModel, load_base_model, unusable
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import EncodedExamples, TaskModel

_TEXTS_AT_ONCE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenRows:
    """Rows of token ids of any lengths."""

    tokens: NDArray[np.int32] = field(repr=False)
    """The ids of all rows, one after the other."""
    starts: NDArray[np.int64] = field(repr=False)
    """Where each row starts in `tokens`; one more at the end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row."""
        return np.diff(self.starts)

    def row(self, index: int) -> NDArray[np.int32]:
        """Return the token ids of one row."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]

    def pad(self, rows: Sequence[int], pad_id: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and mask of the chosen rows, (rows, tokens), padded on the right to `length` at least."""
        chosen = [self.row(row) for row in rows]
        ids = np.full((len(rows), max(length, *map(len, chosen))), pad_id, np.int64)
        mask = np.zeros_like(ids)
        for position, row in enumerate(chosen):
            ids[position, : len(row)] = row
            mask[position, : len(row)] = 1
        return ids, mask


def flatten_rows(rows: Iterator[Sequence[int]]) -> TokenRows:
    """Take rows of token ids together."""
    parts = [np.asarray(row, np.int32) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return TokenRows(tokens=np.concatenate(parts), starts=starts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenisedTexts(EncodedExamples):
    """Labelled texts, tokenised for one job."""

    texts: TokenRows
    label_ids: NDArray[np.int64] = field(repr=False)
    pad_id: int

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each text."""
        return self.texts.lengths

    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:
        """Return the chosen texts, padded to the longest of them and to `length` at least."""
        ids, mask = self.texts.pad(rows, self.pad_id, length)
        return Batch(
            inputs={"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)},
            labels=torch.from_numpy(self.label_ids[list(rows)]),
            rows=torch.tensor(list(rows)),
        )


class TextClassifier(TaskModel[TextExamples]):
    """`AutoModelForSequenceClassification` with as many outputs as the job has labels."""

    def __init__(self, base: BaseModel, tokenizer: Any, training: TrainingSettings) -> None:
        super().__init__(base, training)
        self._tokenizer = tokenizer
        check_length(base, tokenizer, training)

    def encode(self, examples: TextExamples) -> TokenisedTexts:
        """Tokenise all texts, special tokens included, each cut to the job's `max_length`."""
        return TokenisedTexts(
            texts=flatten_rows(tokenise(self._tokenizer, examples.texts, self.training.max_length)),
            label_ids=np.asarray(examples.label_ids, np.int64),
            pad_id=int(self._tokenizer.pad_token_id),
        )

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:  # noqa: ARG002 - texts can become longer
        """Return random tokens in texts of the greatest length that the job allows."""
        training = self.training
        return noisy_texts(batch_size, training.max_length, len(self._tokenizer), len(training.labels))


def load_text_classifier(
    folder: Path, training: TrainingSettings, precision: Precision = Precision.FLOAT32
) -> TextClassifier:
    """Build model and tokenizer; raise ModelError, or ConfigError where the model cannot read such long texts."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415 - takes seconds to import

    base = load_base_model(AutoModelForSequenceClassification, folder, precision, num_labels=len(training.labels))
    return TextClassifier(base, load_tokenizer(base), training)


def noisy_texts(batch_size: int, length: int, vocabulary: int, classes: int, seed: int = 0) -> Batch:
    """Return a batch of random tokens in which every text has `length` tokens."""
    generator = np.random.default_rng(seed)
    ids: NDArray[np.int64] = generator.integers(0, vocabulary, (batch_size, length))
    return Batch(
        inputs={
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.ones(batch_size, length, dtype=torch.int64),
        },
        labels=torch.from_numpy(generator.integers(0, classes, batch_size)),
        rows=torch.arange(batch_size),
    )


def load_tokenizer(base: BaseModel) -> Any:
    """Return the folder's tokenizer, able to pad; raise ModelError when it has no token to do it with."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import

    tokenizer = AutoTokenizer.from_pretrained(base.folder, **TRUSTED)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise unusable("its tokenizer has no token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    if base.model.config.pad_token_id is None:
        base.model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def check_length(base: BaseModel, tokenizer: Any, training: TrainingSettings) -> None:
    """Raise ConfigError CONFIG_INVALID for texts longer than the model can read."""
    # Either may be silent: the configuration by lacking the key, the tokenizer by a number beyond all use.
    known = [getattr(base.model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    bound = min((int(each) for each in known if each is not None and each < 1 << 31), default=None)
    if bound is not None and training.max_length > bound:
        raise ConfigError(
            f"[training] max_length = {training.max_length} is more tokens than the model can read.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step=f"Set it to {bound} or less.",
        )


def tokenise(tokenizer: Any, texts: Sequence[str], max_length: int) -> Iterator[list[int]]:
    """Yield the token ids of each text, special tokens included, cut to `max_length`."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = list(texts[start : start + _TEXTS_AT_ONCE])
        yield from tokenizer(some, truncation=True, max_length=max_length, padding=False)["input_ids"]
