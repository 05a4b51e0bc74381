"""Examples that nobody has labelled yet: what a model is asked about.

Each keeps its place in the source, and one that there is nothing to say of keeps it as well, so that answers can be put
beside what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.data.cells import text_of
from ravan.data.examples import Examples
from ravan.data.image_files import IMAGE_SUFFIXES, open_files
from ravan.data.images import ImageExamples, scale_image
from ravan.data.series import SeriesExamples, iterate_readings
from ravan.data.source import DataSource, cannot_open, nothing_to_learn
from ravan.data.tables import iterate_rows
from ravan.data.texts import AnswerExamples, TextExamples
from ravan.manifest.plan import Task, TrainingSettings

NO_TEXT: Final = "there is no text"
NO_IMAGE: Final = "the image cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a model is asked, in the order of the source."""

    examples: Examples | None = field(repr=False)
    """Those that can be asked, with labels or answers that mean nothing; None where there are none."""
    places: tuple[str, ...]
    """Of all: a row's number, or an image's name; a window has that of its last row."""
    faults: Mapping[int, str]
    """By position among all: why there is nothing to say of it."""


def read_questions(source: DataSource, training: TrainingSettings) -> Questions:
    """Read all examples of a source without their labels; raise DataError DATA_UNREADABLE. Blocks on disk."""
    return _READERS[training.task](replace(source, label=""), training)


def ask_texts(texts: Sequence[str], places: Iterable[str], task: Task) -> Questions:
    """Return questions about texts."""
    faults = {position: NO_TEXT for position, text in enumerate(texts) if not text.strip()}
    asked = tuple(text for position, text in enumerate(texts) if position not in faults)
    examples: Examples | None = None
    if asked and task is Task.CAUSAL_LM:
        examples = AnswerExamples(texts=asked, answers=("",) * len(asked), left_out=len(faults))
    elif asked:
        examples = TextExamples(texts=asked, label_ids=(0,) * len(asked), left_out=len(faults))
    return Questions(examples=examples, places=tuple(places), faults=faults)


def ask_images(images: Iterable[bytes], places: Iterable[str], side: int) -> Questions:
    """Return questions about the contents of image files."""
    scaled = [scale_image(content, side) for content in images]
    faults = {position: NO_IMAGE for position, pixels in enumerate(scaled) if pixels is None}
    asked = [pixels for pixels in scaled if pixels is not None]
    examples = (
        ImageExamples(pixels=np.stack(asked), label_ids=(0,) * len(asked), left_out=len(faults)) if asked else None
    )
    return Questions(examples=examples, places=tuple(places), faults=faults)


def ask_windows(windows: NDArray[np.float32], places: Iterable[str]) -> Questions:
    """Return questions about windows of sensor values, (windows, rows, channels)."""
    count, rows, channels = windows.shape
    examples = SeriesExamples(
        values=windows.reshape(count * rows, channels),
        starts=np.arange(count, dtype=np.int64) * rows,
        window=rows,
        label_ids=(0,) * count,
        left_out=0,
    )
    return Questions(examples=examples if count else None, places=tuple(places), faults={})


def _read_texts(source: DataSource, training: TrainingSettings) -> Questions:
    rows = [(str(line), text_of(cells[source.text])) for line, cells in iterate_rows(source, (source.text,))]
    if not rows:
        raise nothing_to_learn(source.name, "row")
    return ask_texts([text for _, text in rows], [place for place, _ in rows], training.task)


def _read_images(source: DataSource, training: TrainingSettings) -> Questions:
    if source.path.is_file() and source.path.suffix.lower() in IMAGE_SUFFIXES:
        try:
            return ask_images([source.path.read_bytes()], [source.path.name], training.image_side)
        except OSError as error:
            raise cannot_open(source.name, error) from None
    with open_files(source) as files:
        names = files.names()

        def content(name: PurePosixPath) -> bytes:
            # Broken and encrypted archives raise whatever they stumble over; no bytes are no image.
            try:
                return files.read(name)
            except Exception:
                return b""

        if not names:
            raise nothing_to_learn(source.name, f"image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return ask_images(map(content, names), map(str, names), training.image_side)


def _read_windows(source: DataSource, training: TrainingSettings) -> Questions:
    series: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
    for reading in iterate_readings(source, training.channels):
        series.setdefault(reading.series, []).append((reading.line, reading.values))
    length, step = training.max_length, training.window_step
    windows = [rows[at : at + length] for rows in series.values() for at in range(0, len(rows) - length + 1, step)]
    if not windows:
        raise nothing_to_learn(source.name, f"series of {length} rows, which is what the model looks at")
    values = np.asarray([[values for _, values in window] for window in windows], np.float32)
    return ask_windows(values, [str(window[-1][0]) for window in windows])


_READERS: Final[Mapping[Task, Callable[[DataSource, TrainingSettings], Questions]]] = {
    Task.SEQUENCE_CLASSIFICATION: _read_texts,
    Task.CAUSAL_LM: _read_texts,
    Task.IMAGE_CLASSIFICATION: _read_images,
    Task.SERIES_CLASSIFICATION: _read_windows,
}
