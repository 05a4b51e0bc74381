"""What every store does, tried on a file, in memory and at a PostgreSQL server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres
from stored_values import (
    HARDWARE,
    begun_round,
    finished_round,
    job,
    job_profile,
    model,
    result,
    site,
    token,
)

from coordinator.leases.lease import ROUNDS, Lease
from coordinator.store.base import Store, Transaction
from coordinator.store.records import AnswerRecord, EntryKind, RoundEntry
from coordinator.store.sql.store import MEMORY, SqlStore, open_store
from coordinator.work.tasks import TaskKind, TaskState, new_task
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import Numbered
from ravan.manifest.phases import JobState

A, B = SiteId("plant-a"), SiteId("plant-b")
ONE, TWO = JobId("j1"), JobId("j2")

__all__ = ["postgres"]


@pytest.fixture(params=["file", "memory", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = open_store(server.new_database())
    else:
        opened = open_store(tmp_path / "ravan.db" if request.param == "file" else MEMORY)
    yield opened
    await opened.close()


async def test_nothing_is_there_at_first(store: Store) -> None:
    def read(t: Transaction) -> list[object]:
        found = [t.get_token("t"), t.get_site(A), t.get_job(ONE), t.find_job("j")]
        lists = [t.list_open_tokens(), t.list_sites(), t.list_models(), t.list_jobs(), t.list_rounds(ONE)]
        return [*found, t.find_job_by_request("r"), *map(len, lists), len(t.instructions_after(A, 0))]

    assert await store.transact("read", read) == [None] * 5 + [0] * 6


async def test_records_come_back_as_they_were(store: Store) -> None:
    def write(t: Transaction) -> None:
        t.put_token(token())
        t.put_site(site())
        t.put_site(site("plant-b", hardware=None))
        t.put_model(model())
        t.put_job(job())
        t.put_job_profile(job_profile())
        t.put_round(finished_round())
        t.put_round(begun_round())

    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.get_token("t1")) == token()
    assert await store.transact("read", lambda t: t.list_sites()) == [site(), site("plant-b", hardware=None)]
    assert await store.transact("read", lambda t: t.list_models()) == [model()]
    assert await store.transact("read", lambda t: t.get_job(ONE)) == job()
    assert await store.transact("read", lambda t: t.list_job_profiles(ONE)) == [job_profile()]
    assert await store.transact("read", lambda t: t.list_rounds(ONE)) == [finished_round(), begun_round()]


async def test_putting_again_replaces_and_keeps_what_refers_to_it(store: Store) -> None:
    changed = replace(job(), state=JobState.FAILED, accuracy=None)

    def write(t: Transaction) -> None:
        t.put_job(job())
        t.put_round(begun_round(number=1))
        t.put_job(changed)
        t.put_round(finished_round())
        t.put_job_profile(job_profile())
        t.put_job_profile(job_profile(floor=0.5))
        t.put_site(site("plant-a", hardware=None))
        t.put_site(site("plant-a", hardware=HARDWARE))

    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.list_jobs()) == [changed]
    assert await store.transact("read", lambda t: t.list_rounds(ONE)) == [finished_round()]
    assert await store.transact("read", lambda t: t.list_job_profiles(ONE)) == [job_profile(floor=0.5)]
    assert await store.transact("read", lambda t: t.get_site(A)) == site()


async def test_open_tokens_are_the_unused_ones(store: Store) -> None:
    def write(t: Transaction) -> None:
        for each in (token("late", 3.0), token("used", 1.0, used_at=1.05), token("early", 2.0)):
            t.put_token(each)

    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.list_open_tokens()) == [token("early", 2.0), token("late", 3.0)]


async def test_answers_are_found_by_request_until_they_are_dropped(store: Store) -> None:
    old = AnswerRecord(request_id="r1", call_hash=b"1" * 32, answer=b"", answered_at=1.0)
    new = AnswerRecord(request_id="r2", call_hash=b"2" * 32, answer=b"\x00answer", answered_at=2.0)
    assert await store.transact("read", lambda t: t.get_answer("r1")) is None
    await store.transact("write", lambda t: t.put_answer(old))
    await store.transact("write", lambda t: t.put_answer(new))
    assert await store.transact("read", lambda t: (t.get_answer("r1"), t.get_answer("r2"))) == (old, new)
    await store.transact("drop", lambda t: t.drop_answers(before=2.0))
    assert await store.transact("read", lambda t: (t.get_answer("r1"), t.get_answer("r2"))) == (None, new)


async def test_a_job_is_found_by_id_then_by_its_newest_name(store: Store) -> None:
    first, second = job("j1", "orders", 1.0), job("j2", "orders", 2.0)
    disguised = job("j3", "j1", 3.0)

    def write(t: Transaction) -> None:
        for each in (first, second, disguised):
            t.put_job(each)

    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.find_job("j1")) == first
    assert await store.transact("read", lambda t: t.find_job("orders")) == second
    assert await store.transact("read", lambda t: t.find_job("absent")) is None
    assert await store.transact("read", lambda t: t.find_job_by_request("request of j2")) == second
    assert await store.transact("read", lambda t: t.list_jobs()) == [disguised, second, first]


async def test_sequence_numbers_rise_per_site_and_never_come_twice(store: Store) -> None:
    def add(t: Transaction) -> list[int]:
        numbers = [t.add_instruction(A, result(n), job_id=ONE, round_number=n) for n in (1, 2)]
        numbers.append(t.add_instruction(B, result(1), job_id=ONE, round_number=1))
        t.drop_instructions(ONE)
        return [*numbers, t.add_instruction(A, result(3), job_id=ONE, round_number=3)]

    assert await store.transact("add", add) == [1, 2, 1, 3]
    left = await store.transact("read", lambda t: t.instructions_after(A, 0))
    assert left == [Numbered(sequence=3, instruction=result(3))]
    assert await store.transact("read", lambda t: t.instructions_after(A, 3)) == []


async def test_dropping_instructions_spares_other_rounds_sites_and_jobs(store: Store) -> None:
    def rounds_left(t: Transaction, name: SiteId) -> list[int]:
        found = [numbered.instruction for numbered in t.instructions_after(name, 0)]
        return [each.round_number for each in found]  # type: ignore[union-attr]

    def add(t: Transaction) -> list[list[int]]:
        # what round an instruction belongs to is the caller's word; 90 marks preparation, 50 the other job
        for name in (A, B):
            t.add_instruction(name, result(90), job_id=ONE, round_number=0)
            t.add_instruction(name, result(50), job_id=TWO, round_number=1)
            for number in (1, 2, 3):
                t.add_instruction(name, result(number), job_id=ONE, round_number=number)
        t.drop_instructions(ONE, before_round=3, site=A)
        first = rounds_left(t, A)
        t.drop_instructions(ONE, before_round=2)
        second = rounds_left(t, B)
        t.drop_instructions(ONE)
        return [first, second, rounds_left(t, A), rounds_left(t, B)]

    assert await store.transact("add", add) == [[90, 50, 3], [90, 50, 2, 3], [50], [50]]


async def test_what_raises_leaves_nothing(store: Store) -> None:
    def write(t: Transaction) -> None:
        t.put_site(site())
        t.add_instruction(A, result(1), job_id=ONE, round_number=1)
        raise LookupError("stop")

    with pytest.raises(LookupError, match="stop"):
        await store.transact("write", write)
    assert await store.transact("read", lambda t: t.list_sites()) == []
    number = await store.transact("add", lambda t: t.add_instruction(A, result(1), job_id=ONE, round_number=1))
    assert number == 1


async def test_transactions_that_come_together_run_one_after_the_other(store: Store) -> None:
    def add(t: Transaction) -> int:
        return t.add_instruction(A, result(1), job_id=ONE, round_number=1)

    numbers = await asyncio.gather(*(store.transact("add", add) for _ in range(20)))
    assert sorted(numbers) == list(range(1, 21))


async def test_names_are_in_the_order_of_their_characters(store: Store) -> None:
    # a server that orders by English rules would not put a hyphen first, nor B before a
    names = ["plant-b", "plant1", "planta", "Bplant", "plant-a"]

    def write(t: Transaction) -> None:
        t.put_job(job())
        for name in names:
            t.put_site(site(name))
            t.put_model(model(name))
            t.put_job_profile(job_profile(name=name))

    await store.transact("write", write)
    assert [s.name for s in await store.transact("read", lambda t: t.list_sites())] == sorted(names)
    assert [m.name for m in await store.transact("read", lambda t: t.list_models())] == sorted(names)
    assert [p.site for p in await store.transact("read", lambda t: t.list_job_profiles(ONE))] == sorted(names)


async def test_a_model_of_seven_billion_parameters_is_kept(store: Store) -> None:
    large = replace(model(), parameters=7_615_616_512)
    await store.transact("write", lambda t: t.put_model(large))
    assert await store.transact("read", lambda t: t.list_models()) == [large]


async def test_the_newest_timeline_counts(store: Store) -> None:
    first = await store.transact("read", lambda t: t.current_timeline())
    assert len(first) == 16
    assert await store.transact("read", lambda t: t.current_timeline()) == first
    await store.transact("begin", lambda t: t.begin_timeline(b"restored", 1e11))
    assert await store.transact("read", lambda t: t.current_timeline()) == b"restored"


async def test_the_database_knows_its_size(store: SqlStore, request: pytest.FixtureRequest) -> None:
    before = await store.size_bytes()
    text = os.urandom(500_000).hex()  # not what a server could pack
    await store.transact("write", lambda t: t.put_job(replace(job(), job_toml=text)))
    after = await store.size_bytes()
    assert (before == after == 0) if "memory" in request.node.name else after - before > 400_000


async def test_what_a_round_has_heard_comes_back_in_order_and_goes_with_its_job_s_rounds(store: Store) -> None:
    first = RoundEntry(kind=EntryKind.OPENED, payload=bytes(range(256)))
    second = RoundEntry(kind=EntryKind.GONE, at=1234.5678, site="plant-a", word="deadline")
    third = RoundEntry(kind=EntryKind.UPLOAD, at=1234.5678, site="plant-b", payload=b"")

    def write(t: Transaction) -> None:
        t.put_job(job("j1"))
        t.put_job(job("j2"))
        t.add_round_entries(ONE, 1, [first, second])
        t.add_round_entries(TWO, 1, [second])
        t.add_round_entries(ONE, 1, [])

    await store.transact("write", write)
    await store.transact("write", lambda t: t.add_round_entries(ONE, 1, [third]))
    assert await store.transact("read", lambda t: t.list_round_entries(ONE, 1)) == [first, second, third]
    assert await store.transact("read", lambda t: t.list_round_entries(ONE, 2)) == []
    await store.transact("drop", lambda t: t.drop_round_entries(ONE))
    assert await store.transact("read", lambda t: t.list_round_entries(ONE, 1)) == []
    assert await store.transact("read", lambda t: t.list_round_entries(TWO, 1)) == [second]


async def test_a_lease_comes_back_as_it_was_taken_and_is_replaced_by_name(store: Store) -> None:
    first = Lease(name=ROUNDS, holder="hq-1-a", address="hq:8443", fence=1 << 40, taken_at=1.25, until=1.7e9 + 0.123)
    other = replace(first, name="other", fence=3)
    second = replace(first, holder="", fence=first.fence + 1)

    def write(t: Transaction) -> None:
        t.put_lease(first)
        t.put_lease(other)

    assert await store.transact("read", lambda t: t.get_lease(ROUNDS)) is None
    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.get_lease(ROUNDS)) == first
    await store.transact("write", lambda t: t.put_lease(second))
    found = await store.transact("read", lambda t: (t.get_lease(ROUNDS), t.get_lease("other")))
    assert found == (second, other)


async def test_the_time_of_a_database_runs_and_is_the_time_of_day(store: Store) -> None:
    def read(t: Transaction) -> tuple[float, float]:
        first = t.now()
        time.sleep(0.02)
        return first, t.now()

    first, second = await store.transact("read", read)
    assert second >= first + 0.01
    assert abs(first - time.time()) < 60


async def test_tasks_come_back_as_they_were_in_the_order_of_their_putting_and_go_with_their_job(store: Store) -> None:
    late = new_task(TaskKind.UNMASK, ONE, 7, {}, 30.5)
    early = replace(
        new_task(TaskKind.EVALUATE, ONE, 0, {"state": "ab" * 32}, 20.25),
        state=TaskState.DONE,
        holder="hq-1-a",
        fence=4,
        taken_at=21.0,
        until=36.125,
        attempts=2,
        result={"accuracy": 0.1234567890123456, "loss": "inf", "list": [[1 << 60, 0.5]]},
    )
    other = new_task(TaskKind.COMBINE, TWO, 1, {"state": "cd" * 32}, 10.0)

    def write(t: Transaction) -> None:
        for each in (late, early, other):
            t.put_task(replace(each, attempts=9))
            t.put_task(each)

    assert await store.transact("read", lambda t: t.get_task(late.task_id)) is None
    await store.transact("write", write)
    assert await store.transact("read", lambda t: t.list_tasks()) == [other, early, late]
    assert await store.transact("read", lambda t: t.get_task(early.task_id)) == early
    await store.transact("drop", lambda t: t.drop_tasks(ONE))
    assert await store.transact("read", lambda t: t.list_tasks()) == [other]
