"""A database at a server: what happens when it restarts, refuses, is full, or is held by another coordinator."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mounted_disk import mounted_disk
from postgres_server import PASSWORD, SYSTEM_USER, USER, PostgresServer, postgres
from stored_values import job, site

from coordinator.config import DatabaseTable
from coordinator.store.base import Transaction
from coordinator.store.sql import postgres as module
from coordinator.store.sql.database import Access, PostgresAddress
from coordinator.store.sql.store import open_database, open_store
from ravan.errors import ConfigError, ErrorReason, ResourceError, StateError

__all__ = ["postgres"]


@pytest.fixture
def address(postgres: PostgresServer) -> PostgresAddress:
    return postgres.new_database()


async def test_what_was_stored_outlives_the_process_and_a_crash_of_the_server(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    program = (
        "import asyncio, os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from stored_values import site; from coordinator.store.sql.store import open_store\n"
        "from coordinator.store.sql.database import PostgresAddress\n"
        f"store = open_store(PostgresAddress(url={address.url!r}, password={address.password!r}))\n"
        "asyncio.run(store.transact('write', lambda t: t.put_site(site())))\n"
        "os._exit(9)\n"
    )
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=False)
    assert ended.returncode == 9
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    store = open_store(address)
    assert await store.transact("read", lambda t: t.list_sites()) == [site()]
    await store.close()


async def test_a_server_that_restarts_delays_a_transaction_and_fails_none(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    store = open_store(address)
    await asyncio.to_thread(postgres.stop)
    written = asyncio.create_task(store.transact("write", lambda t: t.put_site(site())))
    await asyncio.sleep(0.5)
    assert not written.done()
    await asyncio.to_thread(postgres.start)
    await written
    assert await store.transact("read", lambda t: t.list_sites()) == [site()]
    await store.close()


async def test_a_server_that_stays_away_is_a_sentence_and_its_return_is_enough(
    postgres: PostgresServer, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    store = open_store(address)
    await asyncio.to_thread(postgres.stop)
    with pytest.raises(ResourceError, match="cannot be reached or refuses") as caught:
        await store.transact("write", lambda t: t.put_site(site()))
    assert caught.value.reason is ErrorReason.UNREACHABLE
    await asyncio.to_thread(postgres.start)
    await store.transact("write", lambda t: t.put_site(site()))
    await store.close()


async def test_a_connection_that_breaks_in_a_transaction_leaves_nothing_of_it(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    store = open_store(address)

    def write(t: Transaction) -> None:
        t.put_site(site())
        postgres.cut_connections()
        t.put_site(site("plant-b"))

    with pytest.raises(ResourceError) as caught:
        await store.transact("write", write)
    assert caught.value.reason is ErrorReason.UNREACHABLE
    assert await store.transact("read", lambda t: t.list_sites()) == []
    await store.close()


async def test_the_password_may_come_from_where_libpq_looks_for_it(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = replace(address, password="")
    with pytest.raises(ResourceError, match="no password supplied"):
        open_store(silent)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    await open_store(silent).close()


async def test_a_server_on_this_machine_is_reached_through_its_socket(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    name = address.url.rpartition("/")[2]
    socket = f"postgresql://{USER}@/{name}?host={postgres.folder}&port={postgres.port}"
    assert DatabaseTable(url=socket).url == socket
    store = open_store(PostgresAddress(url=socket))
    await store.transact("write", lambda t: t.put_site(site()))
    await store.close()


async def test_several_processes_work_on_a_database_and_take_turns(address: PostgresAddress) -> None:
    first, second = open_store(address), open_store(address)
    began, goes_on = threading.Event(), threading.Event()

    def hold(t: Transaction) -> None:
        t.put_site(site())
        began.set()
        assert goes_on.wait(20)

    holding = asyncio.create_task(first.transact("write", hold))
    await asyncio.to_thread(began.wait, 20)
    reading = asyncio.create_task(second.transact("read", lambda t: t.list_sites()))
    await asyncio.sleep(0.2)
    assert not reading.done()
    goes_on.set()
    assert await reading == [site()]
    await holding
    await first.close()
    await second.close()


async def test_who_wants_the_database_alone_is_refused_while_others_work_on_it(address: PostgresAddress) -> None:
    store = open_store(address)
    with pytest.raises(ResourceError, match="Another coordinator works on the database") as caught:
        open_database(address, Access.ALONE)
    assert caught.value.reason is ErrorReason.WRONG_STATE
    await store.close()
    open_database(address, Access.ALONE).close()


async def test_who_has_the_database_alone_keeps_others_out(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRIES", 2)
    alone = open_database(address, Access.ALONE)
    with pytest.raises(ResourceError, match="Another coordinator works on the database"):
        open_store(address)
    alone.close()
    await open_store(address).close()


async def test_tables_are_not_changed_under_those_who_work_with_them(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    store, name = open_store(address), address.url.rpartition("/")[2]
    postgres.sql("UPDATE alembic_version SET version_num = '0004'", name)
    with pytest.raises(StateError, match="others work with it") as caught:
        open_store(address)
    assert "Stop all coordinators and workers" in caught.value.next_step
    await store.close()


async def test_a_process_that_stands_still_in_a_transaction_does_not_keep_others_waiting_for_ever(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._CONNECT, "options", "-c idle_in_transaction_session_timeout=500ms")
    frozen = open_store(address)
    monkeypatch.undo()
    other = open_store(address)
    began, goes_on = threading.Event(), threading.Event()

    def stand_still(t: Transaction) -> None:
        t.put_site(site())
        began.set()
        assert goes_on.wait(20)

    standing = asyncio.create_task(frozen.transact("write", stand_still))
    await asyncio.to_thread(began.wait, 20)
    assert await other.transact("read", lambda t: t.list_sites()) == []
    goes_on.set()
    with pytest.raises(ResourceError):
        await standing
    await frozen.close()
    await other.close()


@pytest.mark.parametrize("fault", ["password", "database", "port"])
def test_what_refuses_at_the_start_is_named_without_the_password(address: PostgresAddress, fault: str) -> None:
    host, _, name = address.url.rpartition("/")
    wrong = {
        "password": replace(address, password=PASSWORD + "x"),
        "database": replace(address, url=f"{host}/absent"),
        "port": replace(address, url=f"postgresql://ravan@127.0.0.1:1/{name}"),
    }[fault]
    with pytest.raises(ResourceError) as caught:
        open_store(wrong)
    assert caught.value.reason is ErrorReason.UNREACHABLE
    assert wrong.url in str(caught.value)
    assert PASSWORD not in str(caught.value) + repr(wrong) + caught.value.next_step


async def test_a_newer_schema_is_refused_and_the_lock_given_back(
    postgres: PostgresServer, address: PostgresAddress
) -> None:
    await open_store(address).close()
    name = address.url.rpartition("/")[2]
    postgres.sql("UPDATE alembic_version SET version_num = '0999'", name)
    for _ in range(2):
        with pytest.raises(StateError, match="schema 0999") as caught:
            open_store(address)
        assert caught.value.reason is ErrorReason.WRONG_STATE


@pytest.fixture
def small_tablespace(postgres: PostgresServer) -> Iterator[str]:
    """Twice the room that an empty database takes."""
    with mounted_disk(postgres.folder / "small", "16m") as place:
        subprocess.run(["chown", SYSTEM_USER, str(place)], check=True)
        postgres.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        yield "small"
        postgres.sql("DROP DATABASE small")
        postgres.sql("DROP TABLESPACE small")


async def test_a_full_disk_at_the_server_is_a_sentence_and_loses_nothing(
    postgres: PostgresServer, address: PostgresAddress, small_tablespace: str
) -> None:
    postgres.sql(f'CREATE DATABASE small OWNER "{USER}" TABLESPACE {small_tablespace}')
    store = open_store(replace(address, url=f"{address.url.rpartition('/')[0]}/small"))
    await store.transact("write", lambda t: t.put_site(site()))

    def write(t: Transaction) -> None:
        for number in range(20):
            t.put_job(replace(job(f"j{number}"), job_toml=os.urandom(500_000).hex()))

    with pytest.raises(ResourceError, match="is full") as caught:
        await store.transact("write", write)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert await store.transact("read", lambda t: t.list_jobs()) == []
    assert await store.transact("read", lambda t: t.list_sites()) == [site()]
    await store.close()


def test_without_the_driver_the_sentence_says_what_to_install(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        open_store(address)
    assert "ravan[coordinator,postgres]" in caught.value.next_step
