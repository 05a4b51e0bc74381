"""A job's examples from wherever they lie: the task says what one example is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ravan.data.images import ImageExamples, read_images
from ravan.data.series import SeriesExamples, Window, read_series
from ravan.data.source import DataKind, DataSource
from ravan.data.texts import AnswerExamples, TextExamples, read_answers, read_texts
from ravan.manifest.plan import Task, TrainingSettings

Examples = TextExamples | AnswerExamples | ImageExamples | SeriesExamples

KIND_OF_TASK: Final[Mapping[Task, DataKind]] = {
    Task.SEQUENCE_CLASSIFICATION: DataKind.TEXTS,
    Task.CAUSAL_LM: DataKind.TEXTS,
    Task.IMAGE_CLASSIFICATION: DataKind.IMAGES,
    Task.SERIES_CLASSIFICATION: DataKind.SERIES,
}
"""What one example of a task is."""


def read_examples(source: DataSource, training: TrainingSettings) -> Examples:
    """Read all examples for a job; raise DataError DATA_UNREADABLE or DATA_UNKNOWN_LABEL. Blocks on disk."""
    readers: Mapping[Task, Callable[[], Examples]] = {
        Task.SEQUENCE_CLASSIFICATION: lambda: read_texts(source, training.labels),
        Task.CAUSAL_LM: lambda: read_answers(source, training.labels),
        Task.IMAGE_CLASSIFICATION: lambda: read_images(source, training.labels, training.image_side),
        Task.SERIES_CLASSIFICATION: lambda: read_series(
            source,
            training.labels,
            training.channels,
            Window(rows=training.max_length, step=training.window_step, rule=training.label_rule),
        ),
    }
    return readers[training.task]()
