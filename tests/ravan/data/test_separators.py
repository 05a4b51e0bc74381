"""What separates cells, and what marks decimals: told by the header, or by the owner."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravan.data.series import SeriesExamples, Window, read_series
from ravan.data.source import SEPARATORS, DataSource, DecimalMark
from ravan.data.texts import read_texts
from ravan.errors import DataError


def read(path: Path, content: str, decimal: DecimalMark = DecimalMark.COMMA, separator: str = "") -> SeriesExamples:
    path.write_text(content)
    source = DataSource(path=path, name="log.csv", decimal=decimal, separator=separator)
    return read_series(source, ("gut", "schlecht"), ("oil", "rpm"), Window(rows=1, step=1))


def test_a_table_of_a_german_spreadsheet(tmp_path: Path) -> None:
    examples = read(tmp_path / "log", "oil;rpm;label\n1,5;-,25;gut\n2;1,5e3;schlecht\n 3, ;4;gut\n")
    assert examples.values.tolist() == [[1.5, -0.25], [2, 1500], [3, 4]]
    assert examples.label_ids == (0, 1, 0)


@pytest.mark.parametrize("cell", ["1.234", "1.234,56", "1,234,567", ",", "", "1_000"])
def test_a_point_among_decimal_commas_is_not_guessed(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "log", f"oil;rpm;label\n1;2;gut\n{cell};2;gut\n")
    assert str(caught.value) == f"log.csv, line 3, has no number in 'oil' but '{cell}'."
    assert ('set decimal = "."' in caught.value.next_step) == (cell in {"1.234", "1_000"})


def test_a_decimal_comma_that_is_not_set_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "log", "oil;rpm;label\n1,5;2;gut\n", DecimalMark.POINT)
    assert 'set decimal = ","' in caught.value.next_step


columns = st.lists(st.text('abä,;\t" ', min_size=1, max_size=4).filter(str.strip), max_size=3)


@given(columns, st.sampled_from(SEPARATORS), st.permutations(["text", "label"]))
def test_the_header_tells_the_separator(
    tmp_path_factory: pytest.TempPathFactory, others: list[str], separator: str, wanted: list[str]
) -> None:
    header = [*others[:1], wanted[0], *others[1:], wanted[1]]
    row = [f'{each}, "quoted"; \t' if each == "text" else "x" for each in header]
    table = io.StringIO()
    csv.writer(table, delimiter=separator).writerows([header, row])
    path = tmp_path_factory.mktemp("separators") / "a"
    path.write_bytes(table.getvalue().encode())
    assert read_texts(DataSource(path=path, name="a"), ("x",)).texts == ('text, "quoted"; \t',)


def test_a_separator_that_is_set_is_taken(tmp_path: Path) -> None:
    assert read(tmp_path / "log", "oil|rpm|label\n1|2|gut\n", separator="|").values.tolist() == [[1, 2]]
    with pytest.raises(DataError, match="no column 'oil' in line 1; its columns are: oil;rpm;label"):
        read(tmp_path / "log", "oil;rpm;label\n1;2;gut\n", separator=",")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than one column 'rpm'"):
        read(tmp_path / "log", "oil;rpm;rpm;label\n1;2;3;gut\n")
