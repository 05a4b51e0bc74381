"""Reading texts with the answers that a language model is to give."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravan.data.source import DataSource
from ravan.data.texts import AnswerExamples, read_answers
from ravan.errors import DataError, ErrorReason

CONTENT = "text,answer\nhose burst,replace the hose \n ,never read\nengine stops,replace the pump\n"


def read(tmp_path: Path, content: str, labels: tuple[str, ...] = ()) -> AnswerExamples:
    (tmp_path / "0f3a").write_text(content, encoding="utf-8")
    return read_answers(DataSource(path=tmp_path / "0f3a", name="orders.csv", label="answer"), labels)


@pytest.mark.parametrize("labels", [(), ("replace the pump", "replace the hose")], ids=["free", "listed"])
def test_answers_are_read_as_they_stand(tmp_path: Path, labels: tuple[str, ...]) -> None:
    assert read(tmp_path, CONTENT, labels) == AnswerExamples(
        texts=("hose burst", "engine stops"), answers=("replace the hose", "replace the pump"), left_out=1
    )


def test_an_answer_outside_the_list_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"orders\.csv, line 2, has the label 'replace the hose'") as caught:
        read(tmp_path, CONTENT, ("replace a hose", "replace the pump"))
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "Did you mean 'replace a hose'?" in caught.value.next_step


def test_a_free_answer_may_be_anything_but_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"orders\.csv, line 3, has no answer in 'answer'") as caught:
        read(tmp_path, "text,answer\nhose burst,wait\nengine stops, \n")
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    with pytest.raises(DataError, match=r"line 3, has no label"):
        read(tmp_path, "text,answer\nhose burst,wait\nengine stops, \n", ("wait", "go"))


def test_a_table_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no row with a text") as caught:
        read(tmp_path, "text,answer\n,wait\n")
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
