"""Answers to give after a prompt: a causal language model that learns the answer's tokens alone.

An answer is right when greedy decoding would give it word by word, which one pass over prompt and answer shows: each of
its tokens is the most likely one after those before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ravan.data.source import unreadable
from ravan.data.texts import AnswerExamples
from ravan.manifest.plan import TEXT_SLOT, Precision, TrainingSettings
from ravan.tasks.base_model import BaseModel, load_base_model, unusable
from ravan.tasks.batch import NOT_LEARNT, Batch
from ravan.tasks.greedy import continue_greedily
from ravan.tasks.task_model import EncodedExamples, TaskModel
from ravan.tasks.texts import TokenRows, check_length, flatten_rows, load_tokenizer

_FREE_ANSWER: Final = 64
"""Tokens that are left free for an answer where the job does not list them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptedAnswers(EncodedExamples):
    """Prompts with the answers behind them, tokenised for one job."""

    sequences: TokenRows
    answer_lengths: NDArray[np.int64] = field(repr=False)
    """Tokens at the end of each sequence that are its answer."""
    pad_id: int

    def __len__(self) -> int:
        return len(self.answer_lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each sequence."""
        return self.sequences.lengths

    def gather(self, rows: Sequence[int], *, length: int = 0) -> Batch:
        """Return the chosen sequences, padded to the longest of them and to `length` at least."""
        ids, mask = self.sequences.pad(rows, self.pad_id, length)
        labels = np.full_like(ids, NOT_LEARNT)
        for position, row in enumerate(rows):
            end = int(mask[position].sum())
            start = end - int(self.answer_lengths[row])
            # What stands at a place is told from the place before it.
            labels[position, start - 1 : end - 1] = ids[position, start:end]
        return Batch(
            inputs={"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)},
            labels=torch.from_numpy(labels),
            rows=torch.tensor(list(rows)),
        )


class AnswerModel(TaskModel[AnswerExamples]):
    """`AutoModelForCausalLM` with the job's prompt before every answer."""

    evaluation_batch: int = 8  # the outputs have the size of the vocabulary

    def __init__(self, base: BaseModel, tokenizer: Any, training: TrainingSettings) -> None:
        super().__init__(base, training)
        self._tokenizer = tokenizer
        self._can_choose = "logits_to_keep" in inspect.signature(base.model.forward).parameters
        check_length(base, tokenizer, training)

    def encode(self, examples: AnswerExamples) -> PromptedAnswers:
        """Tokenise prompts and answers; a text too long for `max_length` is cut at its end.

        Raise DataError DATA_UNREADABLE for an answer that leaves no room for its text.
        """
        answers = self._answers(examples.answers)
        heads, tail = self._around(examples.texts)
        room = [self.training.max_length - len(tail) - len(answer) for answer in answers]
        if min(room) < 1:
            longest = max(len(answer) for answer in answers)
            raise unreadable(
                f"An answer has {longest} tokens; with the prompt that is more than the job's max_length of"
                f" {self.training.max_length}.",
                "Shorten the answer, or ask HQ for a job with a greater max_length.",
            )
        rows = (
            [*self._prompt(head, left, tail), *answer] for head, left, answer in zip(heads, room, answers, strict=True)
        )
        return PromptedAnswers(
            sequences=flatten_rows(rows),
            answer_lengths=np.asarray([len(answer) for answer in answers], np.int64),
            pad_id=int(self._tokenizer.pad_token_id),
        )

    def answer(self, text: str) -> str:
        """Return what the model says to a text, by greedy decoding; a text that leaves no room is cut at its end."""
        (head,), tail = self._around([text])
        left = max(1, self.training.max_length - len(tail) - self._usual_answer())
        prompt = self._prompt(head, left, tail)
        said = continue_greedily(
            self.model, prompt, end=self._end(), limit=max(1, self.training.max_length - len(prompt))
        )
        return str(self._tokenizer.decode(said)).strip()

    def worst_case(self, batch_size: int, data: EncodedExamples) -> Batch:
        """Return random tokens in sequences of `max_length`, with answers as long as the longest of the data."""
        length = self.training.max_length
        answer = int(data.answer_lengths.max()) if isinstance(data, PromptedAnswers) else length // 2
        ids = np.random.default_rng(0).integers(0, len(self._tokenizer), batch_size * length, np.int32)
        noise = PromptedAnswers(
            sequences=TokenRows(tokens=ids, starts=np.arange(batch_size + 1, dtype=np.int64) * length),
            answer_lengths=np.full(batch_size, min(answer, length - 1), np.int64),
            pad_id=0,
        )
        return noise.gather(range(batch_size))

    def logits(self, batch: Batch) -> Tensor:
        """Return the outputs at the places where some sequence of the batch has an answer to tell."""
        places = _places(batch)
        if self._can_choose:
            logits: Tensor = self.model(**batch.inputs, use_cache=False, logits_to_keep=places).logits
            return logits.float()
        return super().logits(batch)[:, places]

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return each answer's mean cross-entropy over its tokens."""
        wanted = batch.labels[:, _places(batch)]  # (batch, places)
        each = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=NOT_LEARNT)
        return each.view_as(wanted).sum(1) / (wanted != NOT_LEARNT).sum(1)

    def count_correct(self, logits: Tensor, batch: Batch) -> int:
        """Return how many answers greedy decoding would give."""
        wanted = batch.labels[:, _places(batch)]
        return int(((logits.argmax(2) == wanted) | (wanted == NOT_LEARNT)).all(1).sum())

    def _around(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return the tokens up to the end of each text, and those between text and answer."""
        before, after = self.training.prompt.split(TEXT_SLOT)
        heads: list[list[int]] = self._tokenizer([before + text for text in texts])["input_ids"]
        return heads, self._plain([after])[0] if after else []

    def _prompt(self, head: list[int], left: int, tail: list[int]) -> list[int]:
        # Something must stand before an answer for its first token to be told from.
        return [*head[:left], *tail] or [self._end()]

    def _answers(self, answers: Sequence[str]) -> list[list[int]]:
        return [[*ids, self._end()] for ids in self._plain([f" {answer}" for answer in answers])]

    def _usual_answer(self) -> int:
        """Return the tokens that are left free for an answer: what the job's answers take, or half of a short text."""
        labels = self.training.labels
        if labels:
            return max(map(len, self._answers(labels)))
        return min(_FREE_ANSWER, self.training.max_length // 2)

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _end(self) -> int:
        token = self._tokenizer.eos_token_id
        return int(self._tokenizer.pad_token_id if token is None else token)


def load_answer_model(
    folder: Path, training: TrainingSettings, precision: Precision = Precision.FLOAT32
) -> AnswerModel:
    """Build model and tokenizer; raise ModelError, or ConfigError where the model cannot read such long texts."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - takes seconds to import

    base = load_base_model(AutoModelForCausalLM, folder, precision)
    _check_causal(base)
    return AnswerModel(base, load_tokenizer(base), training)


def _check_causal(base: BaseModel) -> None:
    """Refuse a model in which a token's output depends on later ones: it would read the answers that it is to give."""
    with torch.no_grad():
        first = base.model(input_ids=torch.tensor([[0, 0], [0, 1]])).logits[:, 0]  # (2, vocabulary)
    # In a narrow type two rows of one batch may differ by rounding; what came after would differ by far more.
    least = max(1e-3, 4 * torch.finfo(first.dtype).eps)
    if not torch.allclose(first[0], first[1], atol=least * float(first.abs().max())):
        raise unusable(f"a '{base.model.config.model_type}' model of this configuration sees what comes after a token")


def _places(batch: Batch) -> Tensor:
    """Return the positions at which some sequence has a token to tell, ascending."""
    return (batch.labels != NOT_LEARNT).any(0).nonzero().flatten()
