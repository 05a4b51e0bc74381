"""Questions that come line by line, such as from a program that waits for each answer.

A text is a line, or with JSON Lines the text column of an object. An image is its path. Of sensor values each line is a
JSON object with a number for each channel, and there is an answer as soon as a window is full.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ravan.data.cells import number_of
from ravan.data.source import DataSource, TableFormat
from ravan.data.unlabelled import Questions, ask_images, ask_texts, ask_windows
from ravan.manifest.plan import Task, TrainingSettings


def read_lines(lines: Iterable[str], source: DataSource, training: TrainingSettings) -> Iterator[Questions]:
    """Yield what each line asks; `source` says how columns are called."""
    return _READERS[training.task](lines, source, training)


def _texts(lines: Iterable[str], source: DataSource, training: TrainingSettings) -> Iterator[Questions]:
    for number, line in enumerate(lines, start=1):
        text: object = line.rstrip("\r\n")
        if source.format is TableFormat.JSONL:
            text = _object(line).get(source.text)
        if isinstance(text, str):
            yield ask_texts([text], [str(number)], training.task)
        else:
            yield _fault(number, f"it is no JSON object with a text '{source.text}'")


def _images(lines: Iterable[str], _: DataSource, training: TrainingSettings) -> Iterator[Questions]:
    for line in lines:
        path = line.strip()
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError):
            content = b""
        yield ask_images([content], [path], training.image_side)


@dataclass(slots=True)
class _Series:
    rows: deque[list[float]]
    seen: int = field(default=0)


def _windows(lines: Iterable[str], source: DataSource, training: TrainingSettings) -> Iterator[Questions]:
    length, step = training.max_length, training.window_step
    columns = [source.columns.get(channel, channel) for channel in training.channels]
    series: dict[str, _Series] = {}
    for number, line in enumerate(lines, start=1):
        reading = _object(line)
        values = [_number(reading.get(column), source) for column in columns]
        gap = next((column for column, value in zip(columns, values, strict=True) if math.isnan(value)), None)
        if gap is not None:
            yield _fault(number, f"it is no JSON object with a number '{gap}'")
            continue
        each = series.setdefault(str(reading.get(source.group, "")), _Series(deque(maxlen=length)))
        each.rows.append(values)
        each.seen += 1
        if each.seen >= length and (each.seen - length) % step == 0:
            yield ask_windows(np.asarray([list(each.rows)], np.float32), [str(number)])


def _object(line: str) -> Mapping[str, Any]:
    """Return a line's JSON object, an empty one where it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(cell: object, source: DataSource) -> float:
    usable = isinstance(cell, str | int | float) and not isinstance(cell, bool)
    return number_of(cell, source.decimal) if usable else math.nan  # type: ignore[arg-type] # it is one of these


def _fault(number: int, why: str) -> Questions:
    return Questions(examples=None, places=(str(number),), faults={0: why})


_READERS: Final[Mapping[Task, Callable[[Iterable[str], DataSource, TrainingSettings], Iterator[Questions]]]] = {
    Task.SEQUENCE_CLASSIFICATION: _texts,
    Task.CAUSAL_LM: _texts,
    Task.IMAGE_CLASSIFICATION: _images,
    Task.SERIES_CLASSIFICATION: _windows,
}
