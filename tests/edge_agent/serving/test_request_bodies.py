"""What a request asks, and that anything else is refused with a sentence."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import plain_image
from task_settings import settings_of

from edge_agent.serving.body import MOST, questions_in
from ravan.data.images import ImageExamples
from ravan.data.series import SeriesExamples
from ravan.data.texts import TextExamples
from ravan.data.unlabelled import NO_IMAGE, NO_TEXT
from ravan.errors import DataError, ErrorReason
from ravan.manifest.plan import Task

TEXTS = settings_of(Task.SEQUENCE_CLASSIFICATION)
IMAGES = settings_of(Task.IMAGE_CLASSIFICATION, image_side=4)
SERIES = settings_of(Task.SERIES_CLASSIFICATION, channels=("oil", "rpm"), max_length=2, window_step=2)


def test_texts() -> None:
    found = questions_in({"texts": ["hose", "", "half \ud800"]}, TEXTS)
    assert isinstance(found.examples, TextExamples)
    assert found.examples.texts == ("hose", "half ?")
    assert (found.places, found.faults) == (("0", "1", "2"), {1: NO_TEXT})


def test_images() -> None:
    sound = base64.b64encode(plain_image((1, 2, 3))).decode()
    found = questions_in({"images": [sound, base64.b64encode(b"no image").decode(), 5]}, IMAGES)
    assert isinstance(found.examples, ImageExamples)
    assert found.faults == {1: NO_IMAGE, 2: NO_IMAGE}


def test_windows() -> None:
    found = questions_in({"windows": [[[1, 2.5], [3, 4]], [[5, 6], [7, 8]]]}, SERIES)
    assert isinstance(found.examples, SeriesExamples)
    assert found.examples.values.tolist() == [[1, 2.5], [3, 4], [5, 6], [7, 8]]
    assert found.examples.starts.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("body", "training"),
    [
        ({"texts": [5]}, TEXTS),
        ({"texts": []}, TEXTS),
        ({"texts": "hose"}, TEXTS),
        ({"texts": ["hose"], "more": 1}, TEXTS),
        ({"texts": ["hose"] * (MOST + 1)}, TEXTS),
        ({"images": ["hose"]}, TEXTS),
        ({"images": ["not base 64!"]}, IMAGES),
        ({"windows": [[[1, 2]]]}, SERIES),
        ({"windows": [[[1, 2], [3]]]}, SERIES),
        ({"windows": [[[1, 2], [3, "4"]]]}, SERIES),
        ({"windows": [[[1, 2], [3, True]]]}, SERIES),
        ({"windows": [[[1, 2], [3, 1e300]]]}, SERIES),
        ({"windows": [[[1, 2], [3, float("nan")]]]}, SERIES),
        ([], TEXTS),
        (None, TEXTS),
    ],
)
def test_anything_else_is_refused(body: Any, training: Any) -> None:
    with pytest.raises(DataError) as caught:
        questions_in(body, training)
    assert caught.value.reason is ErrorReason.MALFORMED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["texts", "windows"]), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(_JSON)
def test_no_json_gets_anything_but_questions_or_a_sentence(body: Any) -> None:
    for training in (TEXTS, SERIES, IMAGES):
        try:
            found = questions_in(body, training)
        except DataError:
            continue
        assert len(found.places) >= 1
