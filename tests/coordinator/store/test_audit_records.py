"""The audit log in real databases: it grows with what it records or not at all, and has one end."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_chains import KEY, STRANGER, entry
from postgres_server import PostgresServer, postgres
from stored_values import job, site

from coordinator.audit.chain import AuditKind, Position, SignedAs, sign_head
from coordinator.audit.entries import COORDINATOR, actor_of, job_changed
from coordinator.audit.log import AuditLog
from coordinator.audit.reading import verify_log
from coordinator.audit.starting import record_start
from coordinator.audit.verification import Verdict
from coordinator.store.base import Store, Transaction
from coordinator.store.sql.database import Place
from coordinator.store.sql.store import open_store
from ravan.errors import ErrorReason, StateError
from ravan.identity.certificates import Caller, Role
from ravan.ids import Digest
from ravan.manifest.phases import JobState

__all__ = ["postgres"]

LOG = AuditLog(KEY)


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_database()
    return tmp_path / "ravan.db"


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    opened = open_store(place)
    yield opened
    await opened.close()


async def append(store: Store, *numbers: int, kind: AuditKind = AuditKind.ENROLLED) -> None:
    await store.transact("append", lambda t: LOG.append(t, *(entry(number, kind) for number in numbers)))


async def check(store: Store) -> Verdict:
    return await store.transact("verify", lambda t: verify_log(t, KEY.public_key(), (), lambda *_: None))


async def test_what_was_recorded_comes_back_in_order_and_is_sound(store: Store) -> None:
    await append(store, 1, 2)
    await append(store, 3, kind=AuditKind.ROUND_COMMITTED)
    found = await store.transact("read", lambda t: t.audit_records_after(0, 10))
    assert [(each.sequence, json.loads(each.facts)) for each in found] == [(n, {"round": n}) for n in (1, 2, 3)]
    assert await store.transact("read", lambda t: t.audit_records_after(1, 1)) == [found[1]]
    assert await store.transact("read", lambda t: t.last_audit_record("enrolled")) == found[1]
    assert await store.transact("read", lambda t: t.last_audit_record("revoked")) is None
    assert [c.sequence for c in await store.transact("read", lambda t: t.list_audit_checkpoints())] == [3]
    assert (await check(store)).is_sound


async def test_a_deed_that_fails_leaves_no_record_and_a_record_that_fails_no_deed(store: Store) -> None:
    await append(store, 1)

    def fails(t: Transaction) -> None:
        t.put_site(site())
        LOG.append(t, entry(2))
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact("write", fails)
    assert (await check(store)).records == 1

    def is_refused(t: Transaction) -> None:
        t.put_site(site())
        AuditLog(STRANGER).append(t, entry(2))

    with pytest.raises(StateError, match="not sealed with this coordinator's key"):
        await store.transact("write", is_refused)
    assert await store.transact("read", lambda t: t.list_sites()) == []
    assert (await check(store)).is_sound


async def test_two_writers_share_one_chain(place: Place) -> None:
    # Both open before either writes: neither has the database alone.
    first, second = open_store(place), open_store(place)
    await asyncio.gather(*(append(store, n) for n in range(20) for store in (first, second)))
    verdict = await check(first)
    assert (verdict.is_sound, verdict.records) == (True, 40)
    await first.close()
    await second.close()


async def test_nothing_is_built_on_an_end_that_somebody_else_has_written(store: Store) -> None:
    await append(store, 1)
    seal = await store.transact("read", lambda t: t.get_audit_seal())
    assert seal is not None
    false = sign_head(STRANGER, SignedAs.SEAL, Position(sequence=1, head=seal.head))
    await store.transact("forge", lambda t: t.put_audit_seal(false))
    with pytest.raises(StateError) as refused:
        await append(store, 2)
    assert refused.value.reason is ErrorReason.WRONG_STATE
    assert "audit verify" in refused.value.next_step
    assert not (await check(store)).is_sound


async def test_a_last_record_that_was_forged_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ravan.db"
    store = open_store(path)
    await append(store, 1, 2)
    await store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE audit_records SET actor = 'operator:nobody:1' WHERE sequence = 2")
    store = open_store(path)
    await append(store, 3)
    assert [finding.sequence for finding in (await check(store)).findings] == [2]
    await store.close()


async def test_records_without_a_seal_are_not_built_on(tmp_path: Path) -> None:
    path = tmp_path / "ravan.db"
    store = open_store(path)
    await append(store, 1)
    await store.close()
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM audit_seals")
    store = open_store(path)
    with pytest.raises(StateError, match="no seal"):
        await append(store, 2)
    await store.close()


async def test_a_start_records_the_configuration_when_it_changed(store: Store) -> None:
    async def start(configuration: bytes) -> None:
        digest = Digest(configuration * 32)
        await store.transact("start", lambda t: record_start(t, LOG, version="1", process="hq-1", configuration=digest))

    for configuration in (b"a", b"a", b"b", b"a"):
        await start(configuration)
    found = await store.transact("read", lambda t: t.audit_records_after(0, 99))
    words = {"started": "s", "configured": "c"}
    assert "".join(words[each.kind] for each in found) == "scsscsc"


def test_an_actor_is_named_by_role_name_and_serial() -> None:
    assert actor_of(Caller(role=Role.OPERATOR, name="ann", serial="1f")) == "operator:ann:1f"
    assert actor_of(Caller(role=Role.AGENT, name="plant-a", serial="2")) == "site:plant-a:2"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (JobState.PREPARING, JobState.RUNNING, None),
        (JobState.RUNNING, JobState.RUNNING, None),
        (JobState.RUNNING, JobState.PAUSED, "job_paused"),
        (JobState.PAUSED, JobState.RUNNING, "job_resumed"),
        (JobState.PAUSED, JobState.STOPPED, "job_ended"),
        (JobState.RUNNING, JobState.COMPLETED, "job_ended"),
        (JobState.RUNNING, JobState.FAILED, "job_ended"),
    ],
)
def test_what_becomes_of_a_job_is_recorded(before: JobState, after: JobState, kind: str | None) -> None:
    entries = job_changed(replace(job(), state=before), replace(job(), state=after), COORDINATOR)
    assert [each.kind for each in entries] == ([] if kind is None else [kind])
    assert [each.facts["job_state"] for each in entries] == ([] if kind is None else [after])
