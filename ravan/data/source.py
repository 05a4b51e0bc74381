"""Where labelled examples lie, and how what is in there is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ravan.errors import DataError, ErrorReason


class DataKind(StrEnum):
    """What one example is."""

    TEXTS = "texts"
    """A row of a table: a text and its label or answer."""
    IMAGES = "images"
    """An image in the folder that is named like its label."""
    SERIES = "series"
    """A window of rows of a table: numbers of several sensors, and the label of the last row."""


class TableFormat(StrEnum):
    """How a table is written."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """One file or folder of examples."""

    path: Path
    name: str
    """What sentences call it, where its path would say nothing to anybody."""
    format: TableFormat = TableFormat.CSV
    """Of tables; images have none."""
    text: str = "text"
    """Column that holds the texts."""
    label: str = "label"
    """Column that holds the labels or answers."""
    group: str = ""
    """Column that tells series apart, such as one of the machine; empty where all rows are one series."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of a model's channels, where they are called otherwise than the channels."""


def unreadable(sentence: str, next_step: str) -> DataError:
    """Return the error for examples that cannot be read."""
    return DataError(sentence, reason=ErrorReason.DATA_UNREADABLE, next_step=next_step)


def nothing_to_learn(name: str, what: str) -> DataError:
    """Return the error for a source without one example; `what` is what it has not."""
    return unreadable(f"{name} holds no {what}.", "Check that it is the right file and is not empty.")
