"""The site's file becomes token ids; what is wrong with it becomes a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_jobs import LABELS, ROWS, tiny_job, write_rows

from edge_agent.config import AgentFile, DataTable, PolicyTable
from edge_agent.data.site_data import SiteExamples, has_changed, read_site_data, source_of
from ravan.data.contents import Duplicates
from ravan.data.source import DataKind, TableFormat
from ravan.data.texts import TextExamples
from ravan.errors import DataError, ErrorReason

WORDS = "p%ss word"
"""A password."""


def read(folder: Path, table: DataTable, minimum: int = 1) -> SiteExamples:
    config = AgentFile(policy=PolicyTable(minimum_examples=minimum), data={"orders": table})
    return read_site_data(config, tiny_job(folder).plan.training)


def table(path: Path, text: str = "text") -> DataTable:
    return DataTable(path=path, format=TableFormat.CSV, text=text, label="label")


def test_rows_are_read_with_the_site_s_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Schaden,label\nhose burst,pump\n", encoding="utf-8")
    examples = read(tmp_path, table(path, text="Schaden")).examples
    assert isinstance(examples, TextExamples)
    assert (examples.texts, examples.label_ids) == (("hose burst",), (LABELS.index("pump"),))


def test_data_of_another_kind_than_the_task_s(tmp_path: Path) -> None:
    images = DataTable(path=tmp_path, kind=DataKind.IMAGES)
    with pytest.raises(DataError) as caught:
        read(tmp_path, images)
    assert caught.value.reason is ErrorReason.DATA_MISSING
    assert "learns from texts, but [data.orders] holds images" in str(caught.value)


def test_a_label_that_the_job_does_not_know(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("hose burst", "pmup")))
    with pytest.raises(DataError) as caught:
        read(tmp_path, table(path))
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "'pmup'" in str(caught.value)


@pytest.mark.parametrize(("minimum", "enough"), [(16, True), (17, False)])
def test_with_too_few_examples_a_site_takes_no_part(tmp_path: Path, minimum: int, enough: bool) -> None:
    # Rows without text are no examples.
    rows = table(write_rows(tmp_path / "rows.csv", (*ROWS, (" ", "pump"))))
    if enough:
        assert len(read(tmp_path, rows, minimum).examples) == len(ROWS)
        return
    with pytest.raises(DataError) as caught:
        read(tmp_path, rows, minimum)
    assert caught.value.reason is ErrorReason.DATA_TOO_FEW
    assert str(caught.value) == "[data.orders] has 16 examples to learn from; this site takes part with 17 or more."


def test_the_minimum_counts_what_is_learnt_from(tmp_path: Path) -> None:
    # ROWS are four different ones, four times each.
    distinct = table(write_rows(tmp_path / "rows.csv")).model_copy(update={"duplicates": Duplicates.DROP})
    found = read(tmp_path, distinct, 4)
    assert (len(found.examples), found.duplicates, found.kept_back) == (4, 12, 0)
    with pytest.raises(DataError, match="has 4 examples"):
        read(tmp_path, distinct, 5)
    kept = read(tmp_path, table(tmp_path / "rows.csv"), 16)
    assert (len(kept.examples), kept.duplicates) == (16, 12)


def test_some_examples_are_kept_from_learning(tmp_path: Path) -> None:
    rows = tuple((f"order {number}", "pump") for number in range(400))
    split = table(write_rows(tmp_path / "rows.csv", rows)).model_copy(update={"validation_share": 0.25})
    found = read(tmp_path, split)
    assert isinstance(found.examples, TextExamples)
    assert len(found.examples) + found.kept_back == 400
    # Five standard deviations of 400 throws.
    assert abs(found.kept_back - 100) < 44
    write_rows(tmp_path / "rows.csv", (("something new", "cab"), *reversed(rows[100:])))
    again = read(tmp_path, split)
    assert isinstance(again.examples, TextExamples)
    learnt = {text for text in found.examples.texts if text in {row[0] for row in rows[100:]}}
    assert set(again.examples.texts) - {"something new"} == learnt


def test_new_rows_are_noticed(tmp_path: Path) -> None:
    config = AgentFile(data={"orders": table(write_rows(tmp_path / "rows.csv"))})
    training = tiny_job(tmp_path).plan.training
    found = read_site_data(config, training)
    assert not has_changed(config, training, found.stamp)
    write_rows(tmp_path / "rows.csv", (*ROWS, ("new hose", "pump")))
    assert has_changed(config, training, found.stamp)
    (tmp_path / "rows.csv").unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        has_changed(config, training, found.stamp)


def test_passwords_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = DataTable(format=TableFormat.POSTGRESQL, url="postgresql://reader@server/plant", query="SELECT 1")
    assert not source_of("orders", place).password
    in_file = place.model_copy(update={"password_file": tmp_path / "password"})
    with pytest.raises(DataError, match=r"password_file .*cannot be read: No such file"):
        source_of("orders", in_file)
    (tmp_path / "password").write_text(f"{WORDS}\n")
    assert source_of("orders", in_file).password == WORDS
    assert WORDS not in repr(source_of("orders", in_file))
    in_variable = place.model_copy(update={"password_variable": "PLANT_PASSWORD"})
    with pytest.raises(DataError, match="there is no environment variable PLANT_PASSWORD"):
        source_of("orders", in_variable)
    monkeypatch.setenv("PLANT_PASSWORD", WORDS)
    assert source_of("orders", in_variable).password == WORDS
