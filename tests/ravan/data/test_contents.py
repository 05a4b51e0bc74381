"""Duplicates and splits follow from content alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.data.contents import Contents, Duplicates, split_examples
from ravan.data.images import ImageExamples
from ravan.data.series import SeriesExamples
from ravan.data.texts import AnswerExamples, TextExamples

rows = st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(0, 2)), max_size=30)


def texts(content: list[tuple[str, int]]) -> TextExamples:
    return TextExamples(
        texts=tuple(text for text, _ in content), label_ids=tuple(label for _, label in content), left_out=0
    )


def rows_of(examples: TextExamples) -> list[tuple[str, int]]:
    return list(zip(examples.texts, examples.label_ids, strict=True))


@given(rows, st.sampled_from(Duplicates), st.floats(0, 1, exclude_max=True))
def test_nothing_is_lost_but_duplicates(content: list[tuple[str, int]], duplicates: Duplicates, share: float) -> None:
    split = split_examples(texts(content), duplicates, share)
    distinct = list(dict.fromkeys(content))
    assert split.duplicates == len(content) - len(distinct)
    wanted = content if duplicates is Duplicates.KEEP else distinct
    learnt, kept_back = rows_of(split.training), rows_of(split.validation)
    assert sorted(learnt + kept_back) == sorted(wanted)
    # In the order in which they came.
    assert [row for row in wanted if row in learnt] == learnt


@given(rows, st.randoms(use_true_random=False), st.floats(0, 1, exclude_max=True))
def test_the_side_depends_on_the_text_alone(content: list[tuple[str, int]], random: object, share: float) -> None:
    first = split_examples(texts(content), Duplicates.KEEP, share)
    shuffled = [(text, 2 - label) for text, label in reversed(content)] + [("other", 0)]
    second = split_examples(texts(shuffled), Duplicates.KEEP, share)
    assert set(first.training.texts) == set(second.training.texts) - {"other"}
    assert not set(first.training.texts) & set(first.validation.texts)


def test_without_a_share_nothing_is_kept_back_and_nothing_copied() -> None:
    examples = texts([("a", 0), ("a", 0)])
    split = split_examples(examples, Duplicates.KEEP, 0)
    assert split.training is examples
    assert len(split.validation) == 0


def test_shares_are_kept_and_grow() -> None:
    content = [(f"order {number}", 0) for number in range(4000)]
    sides = [set(split_examples(texts(content), Duplicates.KEEP, share).validation.texts) for share in (0.1, 0.2, 0.5)]
    for side, share in zip(sides, (0.1, 0.2, 0.5), strict=True):
        # Five standard deviations.
        assert abs(len(side) - 4000 * share) < 5 * (4000 * share * (1 - share)) ** 0.5
    assert sides[0] < sides[1] < sides[2]


PIXELS = np.array([[[[0, 0, 0]]], [[[9, 9, 9]]], [[[0, 0, 0]]], [[[0, 0, 0]]]], np.uint8)
VALUES = np.array([[1.0], [2.0], [1.0], [2.0], [5.0]], np.float32)


@pytest.mark.parametrize(
    "examples",
    [
        AnswerExamples(texts=("a", "b", "a", "a"), answers=("x", "x", "x", "y"), left_out=1),
        ImageExamples(pixels=PIXELS, label_ids=(0, 0, 0, 1), left_out=1),
        SeriesExamples(values=VALUES, starts=np.array([0, 1, 2, 0]), window=2, label_ids=(0, 0, 0, 1), left_out=1),
    ],
    ids=["answers", "images", "series"],
)
def test_examples_of_each_kind_are_compared_by_what_they_show(examples: Contents) -> None:
    split = split_examples(examples, Duplicates.DROP, 0)
    # The third is the first again; the fourth has another label.
    kept = list(examples.contents())
    assert list(split.training.contents()) == [kept[0], kept[1], kept[3]]
    assert split.duplicates == 1
