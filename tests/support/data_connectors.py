"""The same rows, written for every connector: what one of them reads, all must."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from postgres_server import USER, PostgresServer
from pyarrow import parquet

from ravan.data.source import DataSource, Encoding, TableFormat

Value = str | int | float | datetime.date | bytes | bool | None
Rows = Sequence[Mapping[str, Value]]
"""All with the same columns, each column with values of one type or None."""

NOBODY = 65534


def write_csv(path: Path, rows: Rows, *, separator: str = ",", codec: str = "utf-8") -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(rows[0])
    writer.writerows(["" if value is None else value for value in row.values()] for row in rows)
    path.write_bytes(text.getvalue().encode(codec))


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(dict(row), default=str) + "\n" for row in rows))


def write_parquet(path: Path, rows: Rows) -> None:
    # Groups of two rows, so that any table goes over a border.
    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path, row_group_size=2)


def write_sqlite(path: Path, rows: Rows) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE orders ({', '.join(map(_quoted, rows[0]))})")
        marks = ", ".join("?" * len(rows[0]))
        values = [[str(v) if isinstance(v, datetime.date) else v for v in row.values()] for row in rows]
        connection.executemany(f"INSERT INTO orders VALUES ({marks})", values)  # noqa: S608


def write_postgresql(server: PostgresServer, rows: Rows) -> str:
    """Make a database with the rows in it; return its address."""
    address = server.new_database()
    database = address.url.rpartition("/")[2]
    columns = ", ".join(f"{_quoted(name)} {_sql_type(rows, name)}" for name in rows[0])
    values = ", ".join(f"({', '.join(map(_literal, row.values()))})" for row in rows)
    server.sql(f"CREATE TABLE orders ({columns}); INSERT INTO orders VALUES {values}", database)  # noqa: S608
    server.sql(f'GRANT SELECT ON orders TO "{USER}"', database)
    return address.url


FILE_WAYS: dict[str, tuple[Callable[[Path, Rows], None], dict[str, Any]]] = {
    "csv": (write_csv, {}),
    "csv-semicolon-bom": (lambda path, rows: write_csv(path, rows, separator=";", codec="utf-8-sig"), {}),
    "csv-utf-16-tab": (lambda path, rows: write_csv(path, rows, separator="\t", codec="utf-16"), {}),
    "csv-cp932": (lambda path, rows: write_csv(path, rows, codec="cp932"), {"encoding": Encoding.CP932}),
    "jsonl": (write_jsonl, {"format": TableFormat.JSONL}),
    "parquet": (write_parquet, {"format": TableFormat.PARQUET}),
    "sqlite": (write_sqlite, {"format": TableFormat.SQLITE, "query": "SELECT * FROM orders"}),
}
"""By name: the writer, and what a source has to say besides its path."""


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Lose root's rights for a while: root may read everything."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)


def postgresql_source(url: str, password: str, **keys: Any) -> DataSource:
    keys.setdefault("query", "SELECT * FROM orders;")
    return DataSource(name="orders", format=TableFormat.POSTGRESQL, url=url, password=password, **keys)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sql_type(rows: Rows, name: str) -> str:
    value = next((row[name] for row in rows if row[name] is not None), "")
    kinds: dict[type, str] = {bool: "boolean", int: "bigint", float: "double precision", bytes: "bytea"}
    return kinds.get(type(value), "date" if isinstance(value, datetime.date) else "text")


def _literal(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return "'" + str(value).replace("'", "''") + "'"
