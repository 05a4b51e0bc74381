"""Databases are asked and never written, waited for, and spoken of without their passwords."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from data_connectors import postgresql_source, write_postgresql, write_sqlite
from postgres_server import PASSWORD, PostgresServer, postgres

from ravan.data.source import DataSource, TableFormat
from ravan.data.stamp import read_stamp
from ravan.data.texts import read_texts
from ravan.errors import DataError, ErrorReason

__all__ = ["postgres"]

ROWS = ({"text": "hose 100% gone", "label": "pump"}, {"text": "door", "label": "cab"})
WRITING = (
    "INSERT INTO orders VALUES ('x', 'cab')",
    "DELETE FROM orders",
    "DROP TABLE orders",
    "SELECT * FROM orders; DELETE FROM orders",
    "no query",
    "",
)


def texts(source: DataSource) -> tuple[str, ...]:
    return read_texts(source, ("pump", "cab")).texts


def refusal(source: DataSource) -> DataError:
    with pytest.raises(DataError) as caught:
        texts(source)
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    assert PASSWORD not in f"{caught.value} {caught.value.next_step} {source!r}"
    return caught.value


def in_sqlite(path: Path, query: str = "SELECT * FROM orders") -> DataSource:
    return DataSource(path=path, name="orders", format=TableFormat.SQLITE, query=query)


@pytest.mark.parametrize("query", [*WRITING, "ATTACH 'other.db' AS other", "PRAGMA user_version = 7"])
def test_a_query_to_sqlite_only_reads(tmp_path: Path, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sqlite(tmp_path / "orders", ROWS)
    before = (tmp_path / "orders").read_bytes()
    refusal(in_sqlite(tmp_path / "orders", query))
    assert (tmp_path / "orders").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "orders"]


def test_sqlite_may_join_and_call_functions(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "orders #1?", ROWS)
    query = """WITH numbered AS (SELECT upper(text) AS text, label FROM orders WHERE text LIKE '%\\%%' ESCAPE '\\')
               SELECT numbered.text || '!' AS text, orders.label FROM numbered JOIN orders USING (label)"""
    assert texts(in_sqlite(tmp_path / "orders #1?", query)) == ("HOSE 100% GONE!",)


def test_rows_that_are_only_in_sqlite_s_log_are_read_and_change_the_stamp(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "orders", ROWS)
    with closing(sqlite3.connect(tmp_path / "orders", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        before = read_stamp(in_sqlite(tmp_path / "orders"))
        writer.execute("INSERT INTO orders VALUES ('new', 'cab')")
        assert read_stamp(in_sqlite(tmp_path / "orders")) != before
        assert texts(in_sqlite(tmp_path / "orders"))[-1] == "new"


def test_text_that_another_program_wrote_into_sqlite_in_another_encoding_is_refused(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "orders", ROWS)
    with closing(sqlite3.connect(tmp_path / "orders")) as writer, writer:
        writer.execute("INSERT INTO orders VALUES (CAST(x'fc' AS TEXT), 'cab')")
    assert "UTF-8" in str(refusal(in_sqlite(tmp_path / "orders")))


@pytest.mark.parametrize("query", WRITING)
def test_a_query_to_postgresql_only_reads(postgres: PostgresServer, query: str) -> None:
    url = write_postgresql(postgres, ROWS)
    database = url.rpartition("/")[2]
    postgres.sql('GRANT ALL ON orders TO "ravan"', database)
    refusal(postgresql_source(url, PASSWORD, query=query))
    assert postgres.sql("SELECT count(*) FROM orders", database) == "2"


def test_a_function_that_writes_is_refused_as_well(postgres: PostgresServer) -> None:
    url = write_postgresql(postgres, ROWS)
    body = "CREATE FUNCTION clear() RETURNS text LANGUAGE sql AS 'DELETE FROM orders RETURNING text'"
    postgres.sql(f'{body}; GRANT ALL ON orders TO "ravan"', url.rpartition("/")[2])
    error = refusal(postgresql_source(url, PASSWORD, query="SELECT clear() AS text, 'cab' AS label"))
    assert str(error) == "orders does not answer the query: cannot execute DELETE in a read-only transaction."


def test_more_rows_come_than_are_fetched_at_a_time(postgres: PostgresServer) -> None:
    query = "SELECT n AS text, 'cab' AS label FROM generate_series(1, 4501) AS n -- 100% of them"
    source = postgresql_source(postgres.new_database().url, PASSWORD, query=query)
    assert texts(source) == tuple(map(str, range(1, 4502)))
    assert read_stamp(source)[0] == 4501


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_told_without_it(postgres: PostgresServer, password: str) -> None:
    error = refusal(postgresql_source(postgres.new_database().url, password))
    assert "cannot be reached or refuses" in str(error)
    assert "password" in error.next_step


def test_a_server_that_is_not_there(postgres: PostgresServer) -> None:
    source = postgresql_source(f"postgresql://ravan@127.0.0.1:{postgres.port + 1}/x", PASSWORD)
    assert "cannot be reached or refuses" in str(refusal(source))
    with pytest.raises(DataError, match="cannot be reached or refuses"):
        read_stamp(source)


@pytest.mark.parametrize(
    ("package", "format_", "told"),
    [
        ("psycopg", TableFormat.POSTGRESQL, "pip install 'ravan[edge,postgres]'"),
        ("pyarrow", TableFormat.PARQUET, "pip install 'ravan[edge,parquet]'"),
    ],
)
def test_a_missing_package_is_said_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, format_: TableFormat, told: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "orders").write_bytes(b"")
    error = refusal(DataSource(path=tmp_path / "orders", name="orders", format=format_))
    assert "is not installed" in str(error)
    assert told in error.next_step
