"""Held-out files as operators send them, and the tables of a site."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fuzz.target import Format, Target, require
from ravan.data.tables import TableFormat, read_examples
from ravan.errors import DataError, ErrorReason

_LABELS: Final = ("pump", "engine", "cab")
_WORDS: Final = ("text", "label", '"', "\\ud800", "\\u0000", "{", "[", "null", "true", "1e400", *_LABELS)


def _read(table_format: TableFormat, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders"
        path.write_bytes(data)
        examples = read_examples(path, table_format, "text", "label", _LABELS)
    require(0 < len(examples.texts) == len(examples.label_ids), "texts and labels do not pair")
    require(all(0 <= label < len(_LABELS) for label in examples.label_ids), "a label is out of range")
    for text in examples.texts:
        text.encode()  # tokenizers take nothing else


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
    ),
    refusals={DataError: frozenset({ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL})},
)
