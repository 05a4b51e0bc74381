"""A site's tables in files that are not plain UTF-8 text: other encodings, Parquet, SQLite."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

import pyarrow
from pyarrow import parquet

from fuzz.target import Format, Target, require
from ravan.data.encodings import settle_encoding
from ravan.data.source import DataSource, Encoding, TableFormat
from ravan.data.texts import read_texts
from ravan.errors import DataError, ErrorReason

_LABELS: Final = ("pump", "engine", "cab")
_ENCODINGS: Final = tuple(Encoding)


def _read(table_format: TableFormat, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders"
        path.write_bytes(data)
        source = DataSource(path=path, name="orders", format=table_format, query="SELECT * FROM orders")
        examples = read_texts(source, _LABELS)
        require(path.read_bytes() == data, "the file was written")
    require(0 < len(examples.texts) == len(examples.label_ids), "texts and labels do not pair")
    for text in examples.texts:
        text.encode()  # tokenizers take nothing else


def _settle(data: bytes) -> None:
    """Read the encoding that the first byte chooses; what is accepted must be sound to the last byte."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders"
        path.write_bytes(data[1:])
        wanted = _ENCODINGS[data[0] % len(_ENCODINGS)] if data else Encoding.AUTO
        codec = settle_encoding("orders", lambda: path.open("rb"), wanted)
    text = data[1:].decode(codec)
    if wanted not in (Encoding.AUTO, Encoding.UTF_8, Encoding.UTF_16) and not text.isascii():
        require(not _is_utf_8(data[1:]), "UTF-8 was read as something else")


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _encoded() -> Iterable[bytes]:
    for position, encoding in enumerate(_ENCODINGS):
        codec = "utf-8" if encoding is Encoding.AUTO else encoding
        yield bytes([position]) + "text,label\nTür – 油,pump\n".encode(codec, "replace")


def _parquet() -> Iterable[bytes]:
    columns = {"text": ["the hose leaks", None, "door"], "label": ["pump", "cab", "cab"]}
    for compression in ("none", "snappy"):
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), file, compression=compression)
        yield file.getvalue()


def _sqlite() -> Iterable[bytes]:
    with closing(sqlite3.connect(":memory:")) as connection, connection:
        # Pages of the least size, so that the fuzzer has little to search.
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE orders (text, label)")
        connection.execute("INSERT INTO orders VALUES ('the hose leaks', 'pump'), (7, 'cab')")
        connection.commit()
        yield connection.serialize()


TABLE_FILES: Final = Target(
    name="table-files",
    formats=(
        Format(name="encoding", read=_settle, seeds=_encoded),
        Format(name="parquet", read=lambda data: _read(TableFormat.PARQUET, data), seeds=_parquet),
        Format(name="sqlite", read=lambda data: _read(TableFormat.SQLITE, data), seeds=_sqlite),
    ),
    refusals={DataError: frozenset({ErrorReason.DATA_UNREADABLE, ErrorReason.DATA_UNKNOWN_LABEL})},
)
