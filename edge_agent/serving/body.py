"""What a request's JSON asks: `{"texts": [...]}`, `{"images": [base64, ...]}` or `{"windows": [[[...], ...], ...]}`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ravan.data.unlabelled import Questions, ask_images, ask_texts, ask_windows
from ravan.errors import DataError, ErrorReason
from ravan.manifest.plan import Task, TrainingSettings

MOST: Final = 1000
"""Examples in one request."""

_LARGEST: Final = float(np.finfo(np.float32).max)


def questions_in(body: object, training: TrainingSettings) -> Questions:
    """Return what a request asks; raise DataError MALFORMED. Places are positions, from 0."""
    key = _KEYS[training.task]
    asked = body.get(key) if isinstance(body, Mapping) and set(body) == {key} else None
    if not isinstance(asked, list) or not 1 <= len(asked) <= MOST:
        raise _malformed(f"The request is no JSON object with a list '{key}' of 1 to {MOST} and nothing else.")
    return _READERS[key](asked, training)


def _texts(asked: list[Any], training: TrainingSettings) -> Questions:
    if not all(isinstance(each, str) for each in asked):
        raise _malformed("'texts' holds something that is no text.")
    # Half a character, which JSON can write, is none that a tokenizer takes.
    return ask_texts([each.encode("utf-8", "replace").decode() for each in asked], _positions(asked), training.task)


def _images(asked: list[Any], training: TrainingSettings) -> Questions:
    return ask_images(map(_content, asked), _positions(asked), training.image_side)


def _content(image: object) -> bytes:
    try:
        return base64.b64decode(image, validate=True) if isinstance(image, str) else b""
    except (binascii.Error, ValueError):
        raise _malformed("'images' holds something that is not in base64.") from None


def _windows(asked: list[Any], training: TrainingSettings) -> Questions:
    shape = (training.max_length, len(training.channels))
    return ask_windows(np.stack([_window(each, shape) for each in asked]), _positions(asked))


def _window(rows: object, shape: tuple[int, int]) -> NDArray[np.float32]:
    wanted = f"'windows' holds something that is not {shape[0]} rows of {shape[1]} numbers."
    if not isinstance(rows, list) or len(rows) != shape[0]:
        raise _malformed(wanted)
    if not all(isinstance(row, list) and len(row) == shape[1] and all(map(_is_number, row)) for row in rows):
        raise _malformed(wanted)
    return np.asarray(rows, np.float32)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _positions(asked: list[Any]) -> list[str]:
    return [str(position) for position in range(len(asked))]


def _malformed(sentence: str) -> DataError:
    return DataError(
        sentence, reason=ErrorReason.MALFORMED, next_step="`GET /model` says which task the model has been trained for."
    )


_KEYS: Final[Mapping[Task, str]] = {
    Task.SEQUENCE_CLASSIFICATION: "texts",
    Task.CAUSAL_LM: "texts",
    Task.IMAGE_CLASSIFICATION: "images",
    Task.SERIES_CLASSIFICATION: "windows",
}

_READERS: Final[Mapping[str, Callable[[list[Any], TrainingSettings], Questions]]] = {
    "texts": _texts,
    "images": _images,
    "windows": _windows,
}
