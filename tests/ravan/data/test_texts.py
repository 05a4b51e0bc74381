"""Reading labelled texts: what is read, and the sentence for each thing that can be wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.data.source import LINES, DataSource, TableFormat
from ravan.data.texts import TextExamples, read_texts
from ravan.errors import DataError, ErrorReason

LABELS = ("engine", "hydraulic")


def read_table(path: Path, table_format: TableFormat, label: str = "subsystem", name: str = "a.csv") -> TextExamples:
    return read_texts(DataSource(path=path, name=name, format=table_format, label=label), LABELS)


def read_csv(path: Path, content: bytes | str, label_column: str = "subsystem") -> TextExamples:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, TableFormat.CSV, label_column)


def read_jsonl(path: Path, content: str) -> TextExamples:
    path.write_text(content, encoding="utf-8")
    return read_table(path, TableFormat.JSONL)


def test_csv_of_a_spreadsheet_with_a_byte_order_mark_and_other_columns(tmp_path: Path) -> None:
    content = '\ufefftext,asset,subsystem\r\n"hose, burst",A,hydraulic\r\nwon\'t start,B,engine \r\n'.encode()
    examples = read_csv(tmp_path / "a.csv", content)
    assert examples == TextExamples(texts=("hose, burst", "won't start"), label_ids=(1, 0), left_out=0)


def test_jsonl_with_numbers_and_an_empty_line(tmp_path: Path) -> None:
    content = '{"text": "hose", "subsystem": "hydraulic"}\n\n{"text": 4711, "subsystem": "engine", "x": null}\n'
    assert read_jsonl(tmp_path / "a.jsonl", content) == TextExamples(
        texts=("hose", "4711"), label_ids=(1, 0), left_out=0
    )


def test_left_out_are_left_out_and_counted(tmp_path: Path) -> None:
    examples = read_csv(tmp_path / "a.csv", "text,subsystem\n  ,engine\nhose,hydraulic\n,\n")
    assert (examples.texts, examples.left_out) == (("hose",), 2)


def test_unknown_label_is_named_with_its_line_and_the_nearest_known(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_csv(tmp_path / "a.csv", 'text,subsystem\n"two\nlines",engine\nhose,hydraulics\n')
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "line 4" in str(caught.value)
    assert "'hydraulics'" in str(caught.value)
    assert "Did you mean 'hydraulic'?" in caught.value.next_step


def test_missing_label_is_told_apart_from_an_unknown_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2, has no label") as caught:
        read_csv(tmp_path / "a.csv", "text,subsystem\nhose,\n")
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("text,asset\nhose,A\n", "no column 'subsystem' in line 1; its columns are: text, asset"),
        ("", "holds no row\\."),
        ("text,subsystem\n", "holds no row with a text"),
        ("text,subsystem\nhose\n", "line 2, has 1 cells"),
        ('text,subsystem\n"hose" x,engine\n', "line 2, is no valid CSV"),
        (b"text,subsystem\nl\xe4rm,engine\n", "is not UTF-8"),
    ],
)
def test_broken_csv_is_refused_with_a_sentence(tmp_path: Path, content: bytes | str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_csv(tmp_path / "a.csv", content)
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"text": "hose"\n', "line 1, is no JSON object"),
        ("[1]\n", "line 1, is no JSON object"),
        ('{"text": "hose", "label": "engine"}\n', "no column 'subsystem' in line 1; its columns are: text, label"),
        ('{"text": ["hose"], "subsystem": "engine"}\n', "line 1, has no text or number in 'text'"),
        ("[" * 100_000 + "\n", "line 1, is no JSON object"),
        ('{"text": ' + "9" * 5000 + "}\n", "line 1, is no JSON object"),
    ],
    ids=["cut", "list", "column", "type", "nested", "digits"],
)
def test_broken_jsonl_is_refused_with_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_jsonl(tmp_path / "a.jsonl", content)


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be opened") as caught:
        read_table(tmp_path / name, TableFormat.CSV)
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(texts, st.sampled_from(LABELS)), min_size=1))
def test_what_the_standard_writers_write_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    table = io.StringIO()
    csv.writer(table).writerows([("text", "subsystem"), *rows])
    lines = "".join(json.dumps({"text": text, "subsystem": label}) + "\n" for text, label in rows)
    wanted = (tuple(text for text, _ in rows), tuple(LABELS.index(label) for _, label in rows))
    for examples in (read_csv(folder / "a.csv", table.getvalue()), read_jsonl(folder / "a.jsonl", lines)):
        assert (examples.texts, examples.label_ids) == wanted


@given(st.binary(max_size=300), st.sampled_from(sorted(LINES)))
def test_any_bytes_are_read_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, table_format: TableFormat
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "a"
    path.write_bytes(b"text,subsystem\n" + content)
    reason = None
    count = 0
    try:
        count = len(read_table(path, table_format).texts)
    except DataError as error:
        reason = error.reason
    assert (reason is None) == (count > 0)
    assert reason in {None, ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL}


def test_sentences_use_the_given_name_instead_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "0f3a").write_text("text,subsystem\nhose,pump\n")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "0f3a", TableFormat.CSV, name="held-out.csv")
    assert str(caught.value).startswith("held-out.csv, line 2")
    assert "0f3a" not in str(caught.value)
