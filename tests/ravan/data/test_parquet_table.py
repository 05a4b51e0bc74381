"""Parquet as other tools write it, and whatever else calls itself so."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ravan.data.source import DataSource, TableFormat
from ravan.data.texts import TextExamples, read_texts
from ravan.errors import DataError, ErrorReason

LABELS = ("pump", "cab")


def read(path: Path) -> TextExamples:
    return read_texts(DataSource(path=path, name="orders", format=TableFormat.PARQUET), LABELS)


def write(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **how)
    return path


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_more_rows_than_a_batch_in_any_compression(tmp_path: Path, compression: str) -> None:
    texts = [f"order {number}" for number in range(9000)]
    path = write(tmp_path / "orders", {"text": texts, "label": ["cab"] * 9000}, compression=compression)
    assert read(path).texts == tuple(texts)


def test_categories_are_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "orders", {"text": ["a", "b"], "label": pa.array(["pump", "cab"]).dictionary_encode()})
    assert read(path).label_ids == (0, 1)


def test_other_columns_may_be_anything(tmp_path: Path) -> None:
    columns = {"nested": [{"text": "x"}], "text": ["a"], "list": [[1]], "label": ["cab"]}
    assert read(write(tmp_path / "orders", columns)).texts == ("a",)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_written_as_python_writes_them(tmp_path: Path, unit: str) -> None:
    time = datetime.datetime(2026, 11, 26, 22, 23, 28, tzinfo=datetime.UTC)
    path = write(tmp_path / "orders", {"text": pa.array([time], pa.timestamp(unit, "UTC")), "label": ["cab"]})
    assert read(path).texts == ("2026-11-26 22:23:28+00:00",)


@pytest.mark.parametrize(
    "values",
    [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([True]), pa.array([b"x"])],
    ids=["list", "struct", "bool", "bytes"],
)
def test_values_that_are_neither_text_nor_number(tmp_path: Path, values: Any) -> None:
    with pytest.raises(DataError, match="orders, row 1, has no text or number in 'text'"):
        read(write(tmp_path / "orders", {"text": values, "label": ["cab"]}))


def sound_file() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"text": ["hose", "door", None], "label": ["pump", "cab", "cab"]}), file)
    return file.getvalue()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(sound_file())
    for position in data.draw(st.sets(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "orders"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    reason = None
    try:
        read(path)
    except DataError as error:
        reason = error.reason if str(error).isprintable() else ErrorReason.INTERNAL
    assert reason in {None, ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL}
