"""What `data check` tells: counts, faults with their places, and whether the site could take part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_jobs import ROWS, write_rows

from edge_agent.config import AgentFile, DataTable
from edge_agent.data.inspection import SHOWN_FAULTS, inspect_data
from edge_agent.data.report import SHOWN_LABELS, DataReport, Expectation, describe_report
from ravan.data.source import DataKind
from ravan.errors import DataError

ANY_JOB = Expectation()


def inspect(path: Path, expected: Expectation = ANY_JOB, **keys: Any) -> DataReport:
    return inspect_data(AgentFile(data={"orders": DataTable(path=path, **keys)}), "orders", expected)


def told(report: DataReport, expected: Expectation = ANY_JOB) -> str:
    return "\n".join(describe_report("orders", report, expected))


def test_the_report_counts_and_shows_no_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", (*ROWS, ("  ", "pump"), ("secret words", "other")))
    report = inspect(path)
    assert (report.found, report.left_out, report.faulty, report.obstacle) == (len(ROWS) + 2, 1, 0, "")
    # ROWS are four different ones, four times each.
    assert report.duplicates == 12
    assert report.per_label == {"cab": 4, "engine": 4, "other": 1, "pump": 8}
    assert "secret" not in told(report)
    assert "hose" not in told(report)
    assert told(report).startswith("orders: 18 rows, 1 of them without text, 12 there already\n")
    assert told(report).endswith("This PC could take part in a job that knows these labels.")


def test_faulty_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "text,label\nhose,pump\nsecret,pmup\nsecret\nsecret,\nhose,cab\n" + "a,cab\n" * 9
    )
    expected = Expectation(labels=("pump", "cab", "engine"))
    report = inspect(tmp_path / "rows.csv", expected)
    name = f"[data.orders] {tmp_path / 'rows.csv'}"
    assert report.faults == (
        f"{name}, line 3, has the label 'pmup', which the job does not know.",
        f"{name}, line 4, has 1 cells, fewer than its header.",
        f"{name}, line 5, has no label.",
    )
    assert (report.found, report.faulty, report.left_out) == (14, 3, 0)
    assert "A job refuses all data as long as there are such rows." in report.obstacle
    assert "        0  engine" in told(report, expected)
    assert "secret" not in told(report, expected)


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "hose,\n" * (SHOWN_FAULTS + 5))
    report = inspect(tmp_path / "rows.csv")
    assert (len(report.faults), report.faulty) == (SHOWN_FAULTS, SHOWN_FAULTS + 5)
    assert "... and 5 more" in told(report)


def test_too_few_examples_are_an_obstacle(tmp_path: Path) -> None:
    report = inspect(write_rows(tmp_path / "rows.csv", ROWS[:9]))
    assert "has 9 examples to learn from; this site takes part with 10 or more" in report.obstacle
    assert inspect(write_rows(tmp_path / "rows.csv", ROWS[:10])).obstacle == ""
    report = inspect(tmp_path / "rows.csv", duplicates="drop")
    assert "has 4 examples" in report.obstacle


def test_examples_that_are_kept_back_do_not_count(tmp_path: Path) -> None:
    rows = tuple((f"order {number}", "pump") for number in range(20))
    report = inspect(write_rows(tmp_path / "rows.csv", rows), validation_share=0.9)
    assert 20 - report.kept_back < 10
    assert f"has {20 - report.kept_back} examples" in report.obstacle


def test_all_examples_kept_back_are_too_few_and_not_nothing(tmp_path: Path) -> None:
    rows = (("order", "pump"),) * 12
    report = inspect(write_rows(tmp_path / "rows.csv", rows), validation_share=1 - 2**-53)
    assert (report.kept_back, report.per_label) == (12, {"pump": 12})
    assert "has 0 examples" in report.obstacle


def test_answers_in_people_s_own_words_are_counted_and_not_shown(tmp_path: Path) -> None:
    rows = tuple(("order", f"answer {number}") for number in range(SHOWN_LABELS + 1))
    lines = told(inspect(write_rows(tmp_path / "rows.csv", rows)))
    assert "101 different labels or answers" in lines
    assert "answer 7" not in lines


def test_a_missing_column_is_told_with_the_table_and_the_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[data.orders\] .* its columns are: text, label"):
        inspect(write_rows(tmp_path / "rows.csv"), text="description")


def test_nothing_to_learn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no row with a text"):
        inspect(write_rows(tmp_path / "rows.csv", (("", "pump"),)))


def test_images_are_counted_by_label(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    for name, shade in (("a", 0), ("b", 200), ("c", 0)):
        Image.new("L", (3, 2), shade).save(tmp_path / "scratch" / f"{name}.png")
    (tmp_path / "scratch" / "d.png").write_bytes(b"no image")
    report = inspect(tmp_path, kind=DataKind.IMAGES)
    assert (report.found, report.left_out, report.duplicates, report.per_label) == (4, 1, 1, {"scratch": 3})


def test_listed_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("file,label\na.png,scratch\nb.png,scratch\na.png\n")
    report = inspect(tmp_path, kind=DataKind.IMAGES, labels="list.csv")
    assert (report.found, report.left_out, report.per_label) == (3, 1, {"scratch": 1})
    assert report.faults == (f"[data.orders] {tmp_path}, list.csv, line 4, has 1 cells, fewer than its header.",)


def test_readings_are_counted_and_gaps_are_found_where_the_channels_are_known(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("oil,state\n1,good\n2,worn\n3,\n,good\n")
    keys: dict[str, Any] = {"kind": DataKind.SERIES, "label": "state"}
    report = inspect(tmp_path / "log.csv", **keys)
    assert (report.found, report.faulty, report.per_label) == (4, 1, {"good": 2, "worn": 1})
    report = inspect(tmp_path / "log.csv", Expectation(channels=("oil",)), **keys)
    assert [fault.rpartition("log.csv, ")[2] for fault in report.faults] == [
        "line 4, has no label.",
        "line 5, has no number in 'oil' but ''.",
    ]
