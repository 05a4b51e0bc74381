"""The site's file becomes token ids; what is wrong with it becomes a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_jobs import LABELS, ROWS, tiny_job, write_rows

from edge_agent.config import DataTable
from edge_agent.data.site_data import read_site_data, report_file, tokenise_examples
from ravan.classifier import load_classifier
from ravan.data.tables import TableFormat
from ravan.errors import DataError, ErrorReason


def table(path: Path, text: str = "text") -> DataTable:
    return DataTable(path=path, format=TableFormat.CSV, text=text, label="label")


def test_texts_become_token_ids_in_file_order(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    classifier = load_classifier(job.folder, len(LABELS))
    examples = read_site_data(table(write_rows(tmp_path / "rows.csv")), job.plan.training)
    data = tokenise_examples(classifier, examples, 4)
    assert len(data) == len(ROWS)
    expected = [classifier.tokenizer(text, truncation=True, max_length=4)["input_ids"] for text, _ in ROWS]
    assert [data.text(i).tolist() for i in range(len(data))] == expected
    assert max(len(row) for row in expected) == 4
    assert min(len(row) for row in expected) == 4
    assert data.label_ids.tolist() == [LABELS.index(label) for _, label in ROWS]


def test_texts_of_different_lengths_keep_their_own(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    path = write_rows(tmp_path / "rows.csv", (("hose", "pump"), ("the cab door the cab door", "cab"), ("leak", "pump")))
    data = tokenise_examples(load_classifier(job.folder, 3), read_site_data(table(path), job.plan.training), 16)
    assert [len(data.text(i)) for i in range(3)] == [3, 8, 3]


def test_a_label_that_the_job_does_not_know(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("hose burst", "pmup")))
    with pytest.raises(DataError) as caught:
        read_site_data(table(path), tiny_job(tmp_path).plan.training)
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "'pmup'" in str(caught.value)


def test_the_report_counts_and_shows_no_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("  ", "pump"), ("secret words", "other")))
    report = report_file("orders", table(path))
    assert report.rows == len(ROWS) + 2
    assert report.rows_without_text == 1
    assert report.rows_per_label == {"cab": 4, "engine": 4, "other": 1, "pump": 8}
    assert "secret" not in repr(report)


def test_a_missing_column_is_told_with_the_table_and_the_columns(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv")
    with pytest.raises(DataError) as caught:
        report_file("orders", table(path, text="description"))
    assert "[data.orders]" in str(caught.value)
    assert "text, label" in str(caught.value)
