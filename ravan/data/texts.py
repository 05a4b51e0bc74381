"""Texts with a label to tell or an answer to give, from a table.

A row without text is left out and counted; a row without a known label, or without an answer, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ravan.data.cells import text_of
from ravan.data.labels import LabelIndex
from ravan.data.source import DataSource, nothing_to_learn, unreadable
from ravan.data.tables import Refuse, iterate_rows, raise_refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExamples:
    """Labelled texts in file order."""

    texts: tuple[str, ...] = field(repr=False)
    label_ids: tuple[int, ...] = field(repr=False)
    """Position of each text's label in the job's list."""
    left_out: int
    """Rows left out because their text was blank."""

    def __len__(self) -> int:
        return len(self.texts)

    def contents(self) -> Iterator[tuple[bytes, object]]:
        """Yield each example's bytes, and its label."""
        yield from ((text.encode(), label) for text, label in zip(self.texts, self.label_ids, strict=True))

    def choose(self, rows: Sequence[int]) -> TextExamples:
        """Return those examples alone."""
        texts, ids = tuple(self.texts[row] for row in rows), tuple(self.label_ids[row] for row in rows)
        return replace(self, texts=texts, label_ids=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerExamples:
    """Texts with the answers that a language model is to give, in file order."""

    texts: tuple[str, ...] = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    left_out: int
    """Rows left out because their text was blank."""

    def __len__(self) -> int:
        return len(self.texts)

    def contents(self) -> Iterator[tuple[bytes, object]]:
        """Yield each example's bytes, and its answer."""
        yield from ((text.encode(), answer) for text, answer in zip(self.texts, self.answers, strict=True))

    def choose(self, rows: Sequence[int]) -> AnswerExamples:
        """Return those examples alone."""
        texts, answers = tuple(self.texts[row] for row in rows), tuple(self.answers[row] for row in rows)
        return replace(self, texts=texts, answers=answers)


def read_texts(source: DataSource, labels: Sequence[str]) -> TextExamples:
    """Read all labelled texts of a table.

    Raise DataError DATA_UNREADABLE for a table without examples or one that cannot be read, and DATA_UNKNOWN_LABEL
    for a label outside `labels`.
    """
    rows, left_out = _rows_with_text(source)
    index = LabelIndex(labels)
    ids = tuple(index.look_up(label, source.place(line)) for line, _, label in rows)
    return TextExamples(texts=tuple(text for _, text, _ in rows), label_ids=ids, left_out=left_out)


def read_answers(source: DataSource, labels: Sequence[str]) -> AnswerExamples:
    """Read all texts and answers of a table; raise as `read_texts` does. Without `labels` any answer may come."""
    rows, left_out = _rows_with_text(source)
    index = LabelIndex(labels)
    for line, _, answer in rows:
        place = source.place(line)
        if labels:
            index.look_up(answer, place)
        elif not answer:
            raise unreadable(f"{place} has no answer in '{source.label}'.", "Fill it in, or delete that line.")
    texts, answers = tuple(text for _, text, _ in rows), tuple(answer for _, _, answer in rows)
    return AnswerExamples(texts=texts, answers=answers, left_out=left_out)


def iterate_texts(source: DataSource, refuse: Refuse = raise_refusal) -> Iterator[tuple[int, str, str]]:
    """Yield (row number, text, label or answer), neither checked beyond being there."""
    for line, cells in iterate_rows(source, (source.text, source.label), refuse):
        yield line, text_of(cells[source.text]), text_of(cells[source.label]).strip()


def _rows_with_text(source: DataSource) -> tuple[list[tuple[int, str, str]], int]:
    """Return the rows to learn from, and how many have no text."""
    rows, blank = [], 0
    for row in iterate_texts(source):
        if row[1].strip():
            rows.append(row)
        else:
            blank += 1
    if not rows:
        raise nothing_to_learn(source.name, "row with a text")
    return rows, blank
