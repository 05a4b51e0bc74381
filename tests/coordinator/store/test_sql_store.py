"""The database file: what survives, what is refused, and that tables and migrations agree."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from stored_values import begun_round, finished_round, job, site

from coordinator.store.base import Transaction
from coordinator.store.sql.schema import KNOWN, MIGRATIONS, REVISION
from coordinator.store.sql.store import SqlStore, open_store
from coordinator.store.sql.tables import METADATA
from ravan.errors import ErrorReason, ResourceError, StateError
from ravan.ids import JobId


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ravan.db"


async def test_what_was_stored_is_there_after_a_restart(path: Path) -> None:
    store = open_store(path)

    def write(t: Transaction) -> None:
        t.put_job(job())
        t.put_round(finished_round())

    await store.transact("write", write)
    await store.close()
    again = open_store(path)
    assert await again.transact("read", lambda t: t.list_rounds(JobId("j1"))) == [finished_round()]
    await again.close()


async def test_a_killed_process_loses_no_finished_transaction(path: Path) -> None:
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from stored_values import site; from coordinator.store.sql.store import open_store\n"
        f"store = open_store(Path({str(path)!r}))\n"
        "asyncio.run(store.transact('write', lambda t: t.put_site(site())))\n"
        "os._exit(9)\n"
    )
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=False)
    assert ended.returncode == 9
    store = open_store(path)
    assert await store.transact("read", lambda t: t.list_sites()) == [site()]
    await store.close()


async def test_readers_from_outside_do_not_block_the_writer(path: Path) -> None:
    store = open_store(path)
    await store.close()
    with sqlite3.connect(path) as connection:
        # what lets a backup or an operator's shell read while the daemon writes
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_round_without_its_job_is_refused(path: Path) -> None:
    store = open_store(path)
    with pytest.raises(IntegrityError):
        await store.transact("write", lambda t: t.put_round(begun_round()))
    await store.close()


async def test_a_database_of_the_first_release_is_brought_up_to_date(path: Path) -> None:
    store = open_store(path)
    await store.transact("write", lambda t: t.put_site(site()))
    await store.close()
    with sqlite3.connect(path) as connection:
        # what revision 0001 looked like
        connection.execute("ALTER TABLE sites DROP COLUMN endorsement")
        connection.execute("DROP TABLE round_entries")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    store = open_store(path)
    found = await store.transact("read", lambda t: t.get_site(site().name))
    await store.close()
    assert found == replace(site(), endorsement=b"")


async def test_a_newer_schema_is_refused_with_a_sentence_and_left_alone(path: Path) -> None:
    store = open_store(path)
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    with pytest.raises(StateError, match=r"schema 0999; this one knows up to") as caught:
        open_store(path)
    assert caught.value.reason is ErrorReason.WRONG_STATE
    assert "backup" in caught.value.next_step
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0999",)
    connection.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 40, None])
def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "absent" / "ravan.db"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(ResourceError, match="cannot be opened or written") as caught:
        open_store(path)
    assert caught.value.reason is ErrorReason.NOT_FOUND
    assert content is None or path.read_bytes() == content


async def test_a_full_disk_is_a_sentence_and_loses_nothing(path: Path) -> None:
    store = open_store(path)
    await store.transact("write", lambda t: t.put_site(site()))
    await _limit_pages(store)
    big = "x" * (1 << 20)

    def write(t: Transaction) -> None:
        for number in range(50):
            t.put_job(job(f"{big}{number}"))

    with pytest.raises(ResourceError, match="is full") as caught:
        await store.transact("write", write)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert await store.transact("read", lambda t: t.list_jobs()) == []
    assert await store.transact("read", lambda t: t.list_sites()) == [site()]
    await store.close()


async def _limit_pages(store: SqlStore) -> None:
    """Let SQLite meet its own limit: it fails with the very error of a full disk."""

    def limit(t: Transaction) -> None:
        t._connection.exec_driver_sql("PRAGMA max_page_count = 200")  # type: ignore[attr-defined]

    await store.transact("limit", limit)


async def test_the_hook_hears_of_each_transaction(path: Path) -> None:
    heard: list[str] = []
    store = open_store(path, lambda name, seconds: heard.append(name) if seconds >= 0 else None)

    def fail(t: Transaction) -> None:
        raise LookupError

    await store.transact("read_sites", lambda t: t.list_sites())
    with pytest.raises(LookupError):
        await store.transact("fail", fail)
    await store.close()
    assert heard == ["read_sites", "fail"]


async def test_tables_are_what_the_migrations_make(path: Path) -> None:
    store = open_store(path)
    await store.close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_store_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    assert {script.revision for script in scripts.walk_revisions()} == KNOWN


def test_opening_a_database_in_order_imports_neither_torch_nor_alembic(path: Path) -> None:
    asyncio.run(open_store(path).close())
    program = (
        "import sys; from pathlib import Path; from coordinator.store.sql.store import open_store\n"
        f"store = open_store(Path({str(path)!r})); store._thread.shutdown()\n"
        "sys.exit(int('torch' in sys.modules) + 2 * int('alembic' in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
