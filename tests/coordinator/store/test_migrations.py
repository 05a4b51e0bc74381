"""Migrations: from every released revision to the newest, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import PostgresServer, postgres
from sqlalchemy import Connection, MetaData
from stored_values import finished_round, job, model, site

from coordinator.store.records import SiteRecord
from coordinator.store.sql import rows
from coordinator.store.sql.database import Access, Database, Place
from coordinator.store.sql.schema import KNOWN, MIGRATIONS, REVISION, migrate, revision_of
from coordinator.store.sql.store import connect, open_store
from coordinator.store.sql.tables import METADATA

__all__ = ["postgres"]


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        yield tmp_path / "ravan.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        yield server.new_database()


def insert(connection: Connection, **rows_of: Any) -> None:
    """Write rows into the tables as they are at the connection's revision; columns that came later stay out."""
    tables = MetaData()
    tables.reflect(connection)
    for name, row in rows_of.items():
        table = tables.tables[name]
        connection.execute(table.insert(), {key: value for key, value in row.items() if key in table.c})


def site_as_kept_by(revision: str) -> SiteRecord:
    """Endorsements came with 0002, certificates that were renewed from another with 0008."""
    kept = site() if revision >= "0008" else replace(site(), previous_serial="", previous_expires_at=0.0)
    return kept if revision >= "0002" else replace(kept, endorsement=b"")


@pytest.mark.parametrize("revision", sorted(KNOWN - {REVISION}))
async def test_a_database_of_an_older_release_is_brought_up_to_date(place: Place, revision: str) -> None:
    older = connect(place, Access.ALONE)
    with older.begin() as connection:
        migrate(connection, revision)
        assert revision_of(connection) == revision
        insert(
            connection,
            sites=rows.site_to_row(site()),
            models=rows.model_to_row(model()),
            jobs=rows.job_to_row(job()),
            rounds=rows.round_to_row(finished_round()),
        )
    older.close()
    store = open_store(place)
    assert await store.transact("read", lambda t: t.list_sites()) == [site_as_kept_by(revision)]
    assert await store.transact("read", lambda t: t.list_models()) == [model()]
    # Losses of jobs came with 0005: the newest is that of the last committed round.
    expected = job() if revision >= "0005" else replace(job(), loss_before=None, loss=finished_round().loss)
    assert await store.transact("read", lambda t: t.get_job(job().job_id)) == expected
    assert await store.transact("read", lambda t: t.list_rounds(job().job_id)) == [finished_round()]
    assert len(await store.transact("read", lambda t: t.current_timeline())) == 16
    await store.close()


def test_tables_are_what_the_migrations_make(place: Place) -> None:
    database = connect(place, Access.ALONE)
    with database.begin() as connection:
        migrate(connection)
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(place: Place) -> None:
    database = connect(place, Access.ALONE)
    with database.begin() as connection:
        migrate(connection, "0001")
    with pytest.raises(LookupError):
        break_off(database)
    with database.begin() as connection:
        assert revision_of(connection) == "0001"
        migrate(connection)
        assert revision_of(connection) == REVISION
    database.close()


def break_off(database: Database) -> None:
    with database.begin() as connection:
        migrate(connection)
        raise LookupError


def test_the_newest_migration_is_the_one_that_the_store_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    assert {script.revision for script in scripts.walk_revisions()} == KNOWN
