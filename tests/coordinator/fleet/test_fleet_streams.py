"""The fleet's shell and the outbox on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from fleet_members import MACHINE, Listener, add_sites

from coordinator.fleet.fleet import Fleet
from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience
from coordinator.store.sql.store import MEMORY, SqlStore, open_store
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, IdentityError
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import JobEnded, Numbered
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, JobState

SITE, OTHER = SiteId("plant-1"), SiteId("plant-2")
FIRST, SECOND = b"a" * 16, b"b" * 16
JOB = JobId("job-1")
PATIENCE = Patience(heartbeat_interval_s=5, silence_s=15)


def ended(name: str) -> JobEnded:
    return JobEnded(job_id=JobId(name), state=JobState.COMPLETED)


def beat(process: bytes) -> Heartbeat:
    return Heartbeat(process_id=process, activity=AgentActivity.TRAINING, done=3, total=40)


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    opened = open_store(MEMORY)
    await add_sites(opened, SITE, OTHER)
    yield opened
    await opened.close()


@pytest.fixture
def outbox(store: SqlStore) -> Outbox:
    return Outbox(store)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def fleet(store: SqlStore, outbox: Outbox, clock: ManualClock, listener: Listener) -> AsyncIterator[Fleet]:
    made = Fleet(store, outbox, PATIENCE, clock, monotonic=clock.now)
    await made.start(listener)
    yield made
    await made.stop()


async def greeted(stream: AsyncGenerator[Numbered | None]) -> None:
    assert await anext(stream) is None


async def test_clocks_are_compared_when_a_heartbeat_arrives_and_not_later(fleet: Fleet, clock: ManualClock) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        assert fleet.online()[SITE].clock_ahead_s is None
        await fleet.hear(SITE, replace(beat(FIRST), site_time=clock.now() - 90))
        clock.advance(4)
        async with aclosing(fleet.watch(SITE, FIRST, 0)) as again:
            await greeted(again)
            assert fleet.online()[SITE].clock_ahead_s == -90
            # A release before this one tells no time: nothing is known of its clock, least of all that it is right.
            await fleet.hear(SITE, beat(FIRST))
            assert fleet.online()[SITE].clock_ahead_s is None


async def test_stream_gives_what_is_stored_then_what_comes(fleet: Fleet, outbox: Outbox) -> None:
    await outbox.send(SITE, ended("one"), job_id=JOB, round_number=0)
    await outbox.send(OTHER, ended("other"), job_id=JOB, round_number=0)
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        first = await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await outbox.send(SITE, ended("two"), job_id=JOB, round_number=0)
        second = await waiting
    assert first is not None
    assert second is not None
    assert [first.instruction, second.instruction] == [ended("one"), ended("two")]
    assert first.sequence < second.sequence


async def test_stream_goes_on_after_the_sequence_number(fleet: Fleet, outbox: Outbox) -> None:
    await outbox.send(SITE, ended("one"), job_id=JOB, round_number=0)
    sequence = await outbox.send(SITE, ended("two"), job_id=JOB, round_number=0)
    async with aclosing(fleet.watch(SITE, FIRST, sequence - 1)) as stream:
        await greeted(stream)
        assert await anext(stream) == Numbered(sequence=sequence, instruction=ended("two"))


async def test_newer_stream_of_the_same_process_ends_the_older(fleet: Fleet) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as old, aclosing(fleet.watch(SITE, FIRST, 0)) as new:
        await greeted(old)
        waiting = asyncio.ensure_future(anext(old, None))
        await greeted(new)
        assert await waiting is None
        assert set(fleet.online()) == {SITE}


async def test_second_process_is_refused_and_the_first_stays(fleet: Fleet, listener: Listener) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as first, aclosing(fleet.watch(SITE, SECOND, 0)) as second:
        await greeted(first)
        with pytest.raises(IdentityError) as caught:
            await anext(second)
        assert caught.value.reason is ErrorReason.IDENTITY_IN_USE
        assert fleet.online()[SITE].process_id == FIRST
    assert listener.told == [("attached", SITE)]


async def test_silent_site_is_lost(fleet: Fleet, clock: ManualClock, listener: Listener) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
    assert fleet.online() == {}
    clock.advance(15)
    async with aclosing(fleet.watch(OTHER, SECOND, 0)) as stream:
        await greeted(stream)  # whoever comes makes the fleet look at its clock
        await listener.wait_for("lost", SITE)
    assert listener.told == [("attached", SITE), ("attached", OTHER), ("lost", SITE)]


async def test_heartbeats_and_hardware_are_shown_and_stored(
    fleet: Fleet, store: SqlStore, listener: Listener, clock: ManualClock
) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        clock.advance(3)
        await fleet.hear(SITE, beat(FIRST))
        await fleet.report_hardware(SITE, MACHINE)
        status = fleet.online()[SITE]
        assert (status.heartbeat, status.hardware, status.last_seen) == (beat(FIRST), MACHINE, clock.now())
        with pytest.raises(IdentityError):
            await fleet.hear(SITE, beat(SECOND))
    record = await store.transact("read", lambda transaction: transaction.get_site(SITE))
    assert record is not None
    assert record.hardware == MACHINE
    assert ("heartbeat", SITE) in listener.told
    assert ("hardware", SITE) in listener.told


async def test_hardware_of_an_earlier_connection_is_known(fleet: Fleet) -> None:
    await fleet.report_hardware(SITE, MACHINE)
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        assert fleet.online()[SITE].hardware == MACHINE


async def test_revoked_site_is_cut_off(fleet: Fleet, listener: Listener) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await fleet.expel(SITE)
        with pytest.raises(IdentityError) as caught:
            await waiting
    assert caught.value.reason is ErrorReason.IDENTITY_REVOKED
    assert listener.told[-1] == ("lost", SITE)
    assert fleet.online() == {}


async def test_stopping_ends_the_streams_and_keeps_when_they_were_seen(
    fleet: Fleet, store: SqlStore, clock: ManualClock
) -> None:
    async with aclosing(fleet.watch(SITE, FIRST, 0)) as stream:
        await greeted(stream)
        waiting = asyncio.ensure_future(anext(stream, None))
        clock.advance(7)
        await fleet.hear(SITE, beat(FIRST))
        await fleet.stop()
        assert await waiting is None
    record = await store.transact("read", lambda transaction: transaction.get_site(SITE))
    assert record is not None
    assert record.last_seen == clock.now()
