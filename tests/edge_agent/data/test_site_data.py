"""The site's file becomes token ids; what is wrong with it becomes a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_jobs import LABELS, ROWS, tiny_job, write_rows

from edge_agent.config import DataTable
from edge_agent.data.site_data import read_site_data, report_data
from ravan.data.source import DataKind, TableFormat
from ravan.data.texts import TextExamples
from ravan.errors import DataError, ErrorReason


def table(path: Path, text: str = "text") -> DataTable:
    return DataTable(path=path, format=TableFormat.CSV, text=text, label="label")


def test_rows_are_read_with_the_site_s_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Schaden,label\nhose burst,pump\n", encoding="utf-8")
    examples = read_site_data("orders", table(path, text="Schaden"), tiny_job(tmp_path).plan.training)
    assert isinstance(examples, TextExamples)
    assert (examples.texts, examples.label_ids) == (("hose burst",), (LABELS.index("pump"),))


def test_data_of_another_kind_than_the_task_s(tmp_path: Path) -> None:
    images = DataTable(path=tmp_path, kind=DataKind.IMAGES)
    with pytest.raises(DataError) as caught:
        read_site_data("orders", images, tiny_job(tmp_path).plan.training)
    assert caught.value.reason is ErrorReason.DATA_MISSING
    assert "learns from texts, but [data.orders] holds images" in str(caught.value)


def test_a_label_that_the_job_does_not_know(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("hose burst", "pmup")))
    with pytest.raises(DataError) as caught:
        read_site_data("orders", table(path), tiny_job(tmp_path).plan.training)
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "'pmup'" in str(caught.value)


def test_the_report_counts_and_shows_no_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("  ", "pump"), ("secret words", "other")))
    report = report_data("orders", table(path))
    assert (report.found, report.unusable) == (len(ROWS) + 2, 1)
    assert report.per_label == {"cab": 4, "engine": 4, "other": 1, "pump": 8}
    assert "secret" not in repr(report)


def test_a_missing_column_is_told_with_the_table_and_the_columns(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv")
    with pytest.raises(DataError) as caught:
        report_data("orders", table(path, text="description"))
    assert "[data.orders]" in str(caught.value)
    assert "text, label" in str(caught.value)


def test_the_report_counts_images_and_series(tmp_path: Path) -> None:
    (tmp_path / "images" / "scratch").mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "scratch" / "a.png")
    (tmp_path / "images" / "scratch" / "b.png").write_bytes(b"no image")
    report = report_data("parts", DataTable(path=tmp_path / "images", kind=DataKind.IMAGES))
    assert (report.found, report.unusable, report.per_label) == (2, 1, {"scratch": 1})
    (tmp_path / "values.csv").write_text("oil,state\n1,good\n2,worn\n3,\n4,good\n", encoding="utf-8")
    report = report_data("oil", DataTable(path=tmp_path / "values.csv", kind=DataKind.SERIES, label="state"))
    assert (report.found, report.unusable, report.per_label) == (4, 1, {"good": 2, "worn": 1})
