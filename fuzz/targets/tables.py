"""Held-out files as operators send them, and the tables of a site."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from fuzz.target import Format, Target, require
from ravan.data.series import Window, read_series
from ravan.data.source import DataSource, TableFormat
from ravan.data.texts import read_texts
from ravan.errors import DataError, ErrorReason

_LABELS: Final = ("pump", "engine", "cab")
_WORDS: Final = ("text", "label", '"', "\\ud800", "\\u0000", "{", "[", "null", "true", "1e400", *_LABELS)


def _read(table_format: TableFormat, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders"
        path.write_bytes(data)
        examples = read_texts(DataSource(path=path, name="orders", format=table_format), _LABELS)
    require(0 < len(examples.texts) == len(examples.label_ids), "texts and labels do not pair")
    require(all(0 <= label < len(_LABELS) for label in examples.label_ids), "a label is out of range")
    for text in examples.texts:
        text.encode()  # tokenizers take nothing else


def _read_series(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(data)
        examples = read_series(
            DataSource(path=path, name="log", group="machine"), _LABELS, ("oil", "rpm"), Window(rows=2, step=1)
        )
    require(0 < len(examples.starts) == len(examples.label_ids), "windows and labels do not pair")
    require(bool((examples.starts + 2 <= len(examples.values)).all()), "a window goes beyond the rows")
    require(bool(np.isfinite(examples.values).all()), "a value is not finite")


def _logs() -> Iterable[bytes]:
    yield b"machine,oil,rpm,label\na,1,900,pump\nb,2.5,1e3,cab\na,-1,0,engine\n"


def _tables() -> Iterable[bytes]:
    yield b'text,label\nthe hose leaks,pump\n"a ""b"", c",cab\n ,engine\n'
    yield "\ufefflabel,other,text\r\ncab,,Türe klemmt\r\n".encode()


def _lines() -> Iterable[bytes]:
    yield b'{"text": "the hose leaks", "label": "pump"}\n\n{"label": "cab", "text": 7}\n'
    yield rb'{"text": "T\u00fcre", "label": "cab"}'


TABLES: Final = Target(
    name="tables",
    formats=(
        Format(name="csv", read=lambda data: _read(TableFormat.CSV, data), seeds=_tables),
        Format(name="jsonl", read=lambda data: _read(TableFormat.JSONL, data), seeds=_lines, words=_WORDS),
        Format(name="series", read=_read_series, seeds=_logs),
    ),
    refusals={DataError: frozenset({ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL})},
)
