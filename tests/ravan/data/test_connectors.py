"""One battery for all connectors: the same rows give the same examples, and the same fault the same reason."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_connectors import FILE_WAYS, Rows, as_somebody_else, postgresql_source, write_postgresql
from postgres_server import PASSWORD, PostgresServer, postgres

from ravan.data.series import Window, read_series
from ravan.data.source import LINES, DataSource
from ravan.data.stamp import Stamp, read_stamp
from ravan.data.texts import TextExamples, read_answers, read_texts
from ravan.errors import DataError, ErrorReason

__all__ = ["postgres"]

Connect = Callable[..., DataSource]
"""Lays rows out and returns where they lie."""

LABELS = ("pump", "Kabine", "油圧")
ORDERS: Rows = (
    {"id": 1, "text": 'hose; "burst", 油が漏れる\nsecond line', "label": "油圧"},
    {"id": 2, "text": " ", "label": "pump"},
    {"id": 3, "text": None, "label": "pump"},
    {"id": 4, "text": "won't turn", "label": " pump "},
    {"id": 5, "text": "door", "label": "Kabine"},
)
PLAIN: Rows = ({"text": "hose", "label": "pump"}, {"text": "door", "label": "Kabine"})


@pytest.fixture(params=[*FILE_WAYS, "postgresql"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    def in_file(rows: Rows, **keys: Any) -> DataSource:
        write, own = FILE_WAYS[request.param]
        path = tmp_path / "orders"
        path.unlink(missing_ok=True)
        write(path, rows)
        return DataSource(path=path, name="orders", **{**own, **keys})

    def at_server(rows: Rows, **keys: Any) -> DataSource:
        server: PostgresServer = request.getfixturevalue("postgres")
        return postgresql_source(write_postgresql(server, rows), PASSWORD, **keys)

    return at_server if request.param == "postgresql" else in_file


def refusal(source: DataSource, reason: ErrorReason = ErrorReason.DATA_UNREADABLE) -> DataError:
    with pytest.raises(DataError) as caught:
        read_texts(source, LABELS)
    assert caught.value.reason is reason
    assert caught.value.next_step
    assert str(caught.value).isprintable()
    return caught.value


def place(source: DataSource, row: int) -> str:
    """Return where a sentence says that the row is; rows count from 1."""
    if source.format not in LINES:
        return f"orders, row {row},"
    return f"orders, line {row + (source.format == 'csv')},"


def test_the_same_rows_are_the_same_examples(connect: Connect) -> None:
    wanted = TextExamples(texts=(str(ORDERS[0]["text"]), "won't turn", "door"), label_ids=(2, 0, 1), left_out=2)
    source = connect(ORDERS)
    assert read_texts(source, LABELS) == wanted
    answers = read_answers(source, ())
    assert (answers.answers, answers.left_out) == (("油圧", "pump", "Kabine"), 2)


def test_columns_may_have_any_name(connect: Connect) -> None:
    rows = [{"状態 (Text)": row["text"], "a.b": row["label"], "a": "x"} for row in PLAIN]
    assert read_texts(connect(rows, text="状態 (Text)", label="a.b"), LABELS).label_ids == (0, 1)


def test_numbers_and_dates_are_texts_as_well(connect: Connect) -> None:
    day = datetime.date(2026, 11, 26)
    examples = read_texts(connect([{"text": day, "label": 7}, {"text": day, "label": -1}]), ("-1", "7"))
    assert (examples.texts, examples.label_ids) == (("2026-11-26",) * 2, (1, 0))
    assert read_texts(connect([{"text": 0.5, "label": "pump"}]), LABELS).texts == ("0.5",)


def test_readings_are_numbers(connect: Connect) -> None:
    rows = [
        {"oil": 0.5, "rpm": 900, "machine": "a", "label": "pump"},
        {"oil": -1e3, "rpm": 901, "machine": "a", "label": "Kabine"},
        {"oil": 2.0, "rpm": 902, "machine": "b", "label": "pump"},
    ]
    examples = read_series(connect(rows, group="machine"), LABELS, ("rpm", "oil"), Window(rows=2, step=1))
    assert examples.values.tolist() == [[900, 0.5], [901, -1000], [902, 2]]
    assert (examples.starts.tolist(), examples.label_ids, examples.left_out) == ([0], (1,), 1)


@pytest.mark.parametrize("gap", [None, float("nan"), float("inf"), 1e300])
def test_a_gap_among_readings_is_refused(connect: Connect, gap: float | None) -> None:
    source = connect([{"oil": 1.0, "label": "pump"}, {"oil": gap, "label": "pump"}])
    with pytest.raises(DataError, match=f"{place(source, 2)} has no number in 'oil'") as caught:
        read_series(source, LABELS, ("oil",), Window(rows=1, step=1))
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE


def test_an_unknown_label_is_named_with_its_place(connect: Connect) -> None:
    source = connect([*PLAIN, {"text": "oil", "label": "pmup"}])
    error = refusal(source, ErrorReason.DATA_UNKNOWN_LABEL)
    assert str(error) == f"{place(source, 3)} has the label 'pmup', which the job does not know."
    assert "Did you mean 'pump'?" in error.next_step


def test_no_label_is_none(connect: Connect) -> None:
    source = connect([*PLAIN, {"text": "oil", "label": None}])
    assert str(refusal(source, ErrorReason.DATA_UNKNOWN_LABEL)) == f"{place(source, 3)} has no label."


def test_a_missing_column_is_named_with_those_that_are_there(connect: Connect) -> None:
    error = refusal(connect(PLAIN, text="description"))
    assert "orders has no column 'description'" in str(error)
    assert str(error).endswith("its columns are: text, label.")


def test_a_source_without_a_text_is_refused(connect: Connect) -> None:
    assert str(refusal(connect([{"text": "", "label": "pump"}]))) == "orders holds no row with a text."


def test_nobody_reads_what_he_may_not(connect: Connect, request: pytest.FixtureRequest) -> None:
    source = connect(PLAIN)
    if source.url:
        server: PostgresServer = request.getfixturevalue("postgres")
        server.sql("REVOKE ALL ON orders FROM PUBLIC, ravan", source.url.rpartition("/")[2])
        assert str(refusal(source)) == "orders does not answer the query: permission denied for table orders."
        return
    source.path.chmod(0)
    with as_somebody_else():
        assert str(refusal(source)) == "orders cannot be opened: Permission denied."


def test_new_rows_change_the_stamp_and_nothing_else_does(connect: Connect) -> None:
    def stamp(rows: Rows) -> Stamp:
        source = connect(rows)
        assert read_stamp(source) == read_stamp(source)
        read_texts(source, LABELS)
        return read_stamp(source)

    assert len({stamp(PLAIN), stamp([*PLAIN, PLAIN[0]]), stamp([PLAIN[0], {**PLAIN[1], "label": "pump"}])}) == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"SQLite format 3\0" + bytes(84), b"PAR1" + bytes(8) + b"PAR1"])
def test_a_broken_file_is_refused(connect: Connect, tmp_path: Path, content: bytes) -> None:
    source = connect(PLAIN)
    if source.url:
        source = replace(source, url=source.url.replace("/ravan_", "/nowhere_"))
    else:
        source.path.write_bytes(content)
    refusal(source)


def test_a_folder_is_no_table_and_nothing_is_neither(connect: Connect, tmp_path: Path) -> None:
    source = connect(PLAIN)
    if source.url:
        return
    assert "cannot be opened: Is a directory" in str(refusal(replace(source, path=tmp_path)))
    assert "cannot be opened: No such file" in str(refusal(replace(source, path=tmp_path / "nowhere")))


@pytest.mark.parametrize("value", [b"\xff\x00", True])
def test_what_is_neither_text_nor_number_is_refused(connect: Connect, value: bytes | bool) -> None:
    source = connect([{"text": "hose", "label": "pump"}, {"text": "x", "label": "pump"}])
    if source.format == "csv" or (source.format == "jsonl" and isinstance(value, bytes)):
        return  # these have text alone
    if source.format == "sqlite" and value is True:
        return  # SQLite keeps a number
    source = connect([{"text": value, "label": "pump"}])
    assert str(refusal(source)) == f"{place(source, 1)} has no text or number in 'text'."
