"""Questions line by line: every line gets an answer, whatever stands in it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from image_files import plain_image
from task_settings import settings_of

from edge_agent.serving.line_input import read_lines
from ravan.data.series import SeriesExamples
from ravan.data.source import DataSource, DecimalMark, TableFormat
from ravan.data.texts import AnswerExamples, TextExamples
from ravan.data.unlabelled import NO_IMAGE, NO_TEXT
from ravan.manifest.plan import Task

TEXTS = settings_of(Task.SEQUENCE_CLASSIFICATION)
SERIES = settings_of(Task.SERIES_CLASSIFICATION, channels=("oil", "rpm"), max_length=3, window_step=2)
PLAIN = DataSource(name="-")


def test_a_line_is_a_text_and_is_answered_before_the_next_comes() -> None:
    drawn: list[str] = []

    def lines() -> itertools.chain[str]:
        return itertools.chain(drawn_one("hose burst\n"), drawn_one(" \r\n"))

    def drawn_one(line: str) -> list[str]:
        drawn.append(line)
        return [line]

    first, blank = read_lines(lines(), PLAIN, TEXTS)
    assert isinstance(first.examples, TextExamples)
    assert (first.examples.texts, first.places) == (("hose burst",), ("1",))
    assert (blank.examples, blank.places, blank.faults) == (None, ("2",), {0: NO_TEXT})


def test_lines_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def lines() -> object:
        for number in range(3):
            taken.append(number)
            yield f"text {number}"

    answers = read_lines(lines(), PLAIN, TEXTS)  # type: ignore[arg-type] # a generator of lines
    next(answers)
    assert taken == [0]


def test_json_lines_name_their_text() -> None:
    source = DataSource(name="-", format=TableFormat.JSONL, text="what")
    lines = ['{"what": "hose", "more": 1}', '{"text": "hose"}', "[1]", "{", '{"what": 5}', "[" * 100_000]
    first, *others = read_lines(lines, source, settings_of(Task.CAUSAL_LM))
    assert isinstance(first.examples, AnswerExamples)
    assert first.examples.texts == ("hose",)
    assert [each.faults for each in others] == [{0: "it is no JSON object with a text 'what'"}] * 5


def test_a_line_is_an_images_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(plain_image((1, 2, 3)))
    lines = [f"{tmp_path / 'a.png'}\n", "missing.png\n", "\0\n", "\n", f"{tmp_path}\n"]
    first, *others = read_lines(lines, PLAIN, settings_of(Task.IMAGE_CLASSIFICATION, image_side=4))
    assert first.examples is not None
    assert first.places == (str(tmp_path / "a.png"),)
    assert [each.faults for each in others] == [{0: NO_IMAGE}] * 4


def test_values_are_answered_whenever_a_window_is_full() -> None:
    lines = [json.dumps({"oil": i, "rpm": 10 * i}) for i in range(8)]
    found = list(read_lines(lines, PLAIN, SERIES))
    assert [each.places for each in found] == [("3",), ("5",), ("7",)]
    assert isinstance(found[1].examples, SeriesExamples)
    assert np.array_equal(found[1].examples.values, [[2, 20], [3, 30], [4, 40]])


def test_series_are_told_apart_and_columns_are_called_as_at_the_site() -> None:
    source = DataSource(name="-", group="machine", columns={"oil": "p_oil"}, decimal=DecimalMark.COMMA)
    lines = [json.dumps({"machine": f"m{i % 2}", "p_oil": f"{i},5", "rpm": 1}) for i in range(6)]
    first, second = read_lines(lines, source, SERIES)
    assert isinstance(first.examples, SeriesExamples)
    assert first.examples.values[:, 0].tolist() == [0.5, 2.5, 4.5]
    assert second.places == ("6",)


@pytest.mark.parametrize("line", ["", "{}", "5", '{"oil": 1}', '{"oil": true, "rpm": 1}', '{"oil": NaN, "rpm": 1}'])
def test_a_reading_without_all_numbers_is_answered_and_left_out(line: str) -> None:
    sound = [json.dumps({"oil": i, "rpm": i}) for i in range(3)]
    fault, window = read_lines([*sound[:2], line, sound[2]], PLAIN, SERIES)
    assert fault.places == ("3",)
    assert fault.faults[0].startswith("it is no JSON object with a number")
    assert window.places == ("4",)
