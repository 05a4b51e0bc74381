"""The site's labelled texts as token ids, in two flat arrays that take little memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.config import DataTable
from ravan.classifier import Classifier, tokenise
from ravan.data.tables import Examples, iterate_rows, no_examples, read_examples
from ravan.manifest.plan import TrainingSettings

_TEXTS_AT_ONCE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenisedTexts:
    """All examples of one file, tokenised for one job."""

    tokens: NDArray[np.int32] = field(repr=False)
    """The token ids of all texts, one after the other."""
    starts: NDArray[np.int64] = field(repr=False)
    """Where each text starts in `tokens`; one more at the end."""
    label_ids: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each text."""
        return np.diff(self.starts)

    def text(self, index: int) -> NDArray[np.int32]:
        """Return the token ids of one text."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What `data check` may tell about a file: counts, never texts."""

    rows: int
    rows_without_text: int
    rows_per_label: dict[str, int]


def read_site_data(table: DataTable, training: TrainingSettings) -> Examples:
    """Read the site's file with its own column names; raise DataError for whatever is wrong with it."""
    return read_examples(table.path, table.format, table.text, table.label, training.labels)


def tokenise_examples(classifier: Classifier, examples: Examples, max_length: int) -> TokenisedTexts:
    """Turn texts into token ids, each cut to `max_length`."""
    parts: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(examples.texts), _TEXTS_AT_ONCE):
        rows = tokenise(classifier, examples.texts[start : start + _TEXTS_AT_ONCE], max_length)
        lengths += [len(row) for row in rows]
        parts.append(np.concatenate([np.asarray(row, np.int32) for row in rows]))
    return TokenisedTexts(
        tokens=np.concatenate(parts),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        label_ids=np.asarray(examples.label_ids, np.int64),
    )


def report_file(name: str, table: DataTable) -> FileReport:
    """Count the rows of one configured file by label; raise DataError when it cannot be read or holds no text."""
    labels: Counter[str] = Counter()
    rows = blank = 0
    shown = f"[data.{name}] {table.path}"
    for _, text, label in iterate_rows(table.path, table.format, table.text, table.label, name=shown):
        rows += 1
        blank += not text.strip()
        labels[label] += bool(text.strip())
    if rows == blank:
        raise no_examples(shown)
    return FileReport(rows=rows, rows_without_text=blank, rows_per_label=dict(sorted(labels.items())))
