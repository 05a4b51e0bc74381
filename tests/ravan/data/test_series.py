"""Windows over sensor tables, against a slow cutter that keeps whole tables in lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravan.data.series import SeriesExamples, Window, iterate_readings, read_series
from ravan.data.source import DataSource, TableFormat
from ravan.errors import DataError, ErrorReason
from ravan.manifest.plan import LabelRule

LABELS = ("sound", "worn", "failing")
CHANNELS = ("oil", "rpm")

Row = tuple[str, float, float, str]
"""Machine, two readings, label."""


def write_rows(path: Path, rows: Sequence[Row], header: str = "machine,oil,rpm,label") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows), ""]))
    return path


def read(path: Path, window: int = 2, step: int = 1, **where: Any) -> SeriesExamples:
    where.setdefault("group", "machine")
    return read_series(DataSource(path=path, name="log.csv", **where), LABELS, CHANNELS, Window(rows=window, step=step))


def windows_of(examples: SeriesExamples) -> list[tuple[list[list[float]], str]]:
    return [
        (examples.values[start : start + examples.window].tolist(), LABELS[label])
        for start, label in zip(examples.starts, examples.label_ids, strict=True)
    ]


def cut_slowly(rows: Sequence[Row], window: int, step: int) -> tuple[list[tuple[list[list[float]], str]], int]:
    """Return the windows, and how many machines have none."""
    found, short = [], 0
    for machine in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == machine]
        first = 0
        while first + window <= len(own):
            part = own[first : first + window]
            found.append(([[row[1], row[2]] for row in part], part[-1][3]))
            first += step
        short += len(own) < window
    return found, short


# Small numbers that float32 holds exactly.
readings = st.integers(-4000, 4000).map(lambda value: value / 8)
rows_of_machines = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), readings, readings, st.sampled_from(LABELS)), min_size=1, max_size=30
)


@settings(deadline=None)
@given(rows_of_machines, st.integers(1, 8), st.integers(1, 10))
def test_windows_are_those_of_a_slow_cutter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], window: int, step: int
) -> None:
    path = write_rows(tmp_path_factory.mktemp("series") / "log.csv", rows)
    wanted, short = cut_slowly(rows, window, step)
    if not wanted:
        with pytest.raises(DataError, match=f"log.csv holds no series of {window} rows"):
            read(path, window, step)
        return
    examples = read(path, window, step)
    assert windows_of(examples) == wanted
    assert (len(examples), examples.window, examples.left_out) == (len(wanted), window, short)
    assert examples.values.dtype == np.float32
    source = DataSource(path=path, name="log.csv", group="machine")
    assert [each.label for each in iterate_readings(source, ())] == [row[3] for row in rows]


def test_machines_whose_rows_are_interleaved_have_their_own_windows(tmp_path: Path) -> None:
    rows = [
        ("a", 1, 0, "sound"),
        ("b", 10, 0, "worn"),
        ("a", 2, 0, "worn"),
        ("b", 20, 0, "sound"),
        ("a", 3, 0, "failing"),
    ]
    examples = read(write_rows(tmp_path / "log.csv", rows))
    assert windows_of(examples) == [
        ([[1, 0], [2, 0]], "worn"),
        ([[2, 0], [3, 0]], "failing"),
        ([[10, 0], [20, 0]], "sound"),
    ]


def test_without_a_group_all_rows_are_one_series(tmp_path: Path) -> None:
    rows = [("a", 1, 0, "sound"), ("b", 10, 0, "worn"), ("a", 2, 0, "failing")]
    examples = read(write_rows(tmp_path / "log.csv", rows), group="")
    assert windows_of(examples) == [([[1, 0], [10, 0]], "worn"), ([[10, 0], [2, 0]], "failing")]


def test_a_machine_with_too_few_rows_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [("a", 1, 0, "sound"), ("b", 2, 0, "worn"), ("b", 3, 0, "worn"), ("c", 4, 0, "sound")]
    examples = read(write_rows(tmp_path / "log.csv", rows))
    assert (windows_of(examples), examples.left_out) == ([([[2, 0], [3, 0]], "worn")], 2)


@pytest.mark.parametrize("columns", [{"oil": "Oil (bar)"}, {"oil": "Oil (bar)", "speed": "never asked for"}])
def test_columns_may_be_called_otherwise_than_the_channels(tmp_path: Path, columns: Mapping[str, str]) -> None:
    # The order in the file is not that of the channels, and a column called like a channel may mean something else.
    path = write_rows(tmp_path / "log.csv", [("a", 7, 5, "sound")], header="machine,rpm,Oil (bar),state")
    examples = read(path, 1, columns=columns, label="state")
    assert windows_of(examples) == [([[5, 7]], "sound")]


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", [("a", 7, 5, "sound")], header="machine,rpm,Oil (bar),label")
    with pytest.raises(DataError, match=r"log\.csv has no column 'oil' in line 1; its columns are: machine, rpm, Oil"):
        read(path)


@pytest.mark.parametrize("cell", ["", "n/a", "nan", "inf", "-inf", "1e39", "1,5"])
def test_a_gap_is_named_with_its_line(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f'machine,oil,rpm,label\na,1,2,sound\na,3,"{cell}",sound\n')
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    assert str(caught.value) == f"log.csv, line 3, has no number in 'rpm' but '{cell}'."


def test_an_unknown_label_is_named_with_its_line_even_inside_a_window(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", [("a", 1, 2, "sund"), ("a", 1, 2, "sound")])
    with pytest.raises(DataError, match=r"log\.csv, line 2, has the label 'sund'") as caught:
        read(path)
    assert caught.value.reason is ErrorReason.DATA_UNKNOWN_LABEL
    assert "Did you mean 'sound'?" in caught.value.next_step


def test_json_lines_hold_series_as_well(tmp_path: Path) -> None:
    rows = [
        {"machine": 1, "oil": 0.5, "rpm": 900, "label": "sound"},
        {"machine": 1, "oil": 1, "rpm": 1e3, "label": "worn"},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert windows_of(read(path, format=TableFormat.JSONL)) == [([[0.5, 900], [1, 1000]], "worn")]


@pytest.mark.parametrize(
    ("labels", "rule", "wanted"),
    [
        # By hand; LABELS go from harmless to grave.
        (("worn", "sound", "sound"), LabelRule.LAST, "sound"),
        (("worn", "sound", "sound"), LabelRule.MAJORITY, "sound"),
        (("worn", "sound", "sound"), LabelRule.ANY, "worn"),
        (("worn", "worn", "sound"), LabelRule.LAST, "sound"),
        (("worn", "worn", "sound"), LabelRule.MAJORITY, "worn"),
        (("sound", "worn", "failing"), LabelRule.MAJORITY, "failing"),
        (("sound", "failing", "worn", "sound", "worn", "sound"), LabelRule.MAJORITY, "sound"),
        (("sound", "worn", "sound", "worn"), LabelRule.MAJORITY, "worn"),
        (("failing", "worn", "sound"), LabelRule.ANY, "failing"),
        (("sound", "sound", "sound"), LabelRule.ANY, "sound"),
    ],
)
def test_a_window_s_label_follows_the_rule(
    tmp_path: Path, labels: tuple[str, ...], rule: LabelRule, wanted: str
) -> None:
    path = write_rows(tmp_path / "log.csv", [("a", 1, 2, label) for label in ("sound", *labels)])
    source = DataSource(path=path, name="log.csv")
    examples = read_series(source, LABELS, CHANNELS, Window(rows=len(labels), step=1, rule=rule))
    assert LABELS[examples.label_ids[1]] == wanted
