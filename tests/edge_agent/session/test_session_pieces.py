"""Pauses between attempts, the lane of heavy work, reasons for the coordinator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from edge_agent.session.failures import drop_reason
from edge_agent.session.lane import Lane
from edge_agent.session.reconnect import FIRST_S, Backoff
from ravan.errors import (
    DataError,
    ErrorReason,
    IdentityError,
    ModelError,
    ProtocolError,
    ResourceError,
    StateError,
    TransferError,
)
from ravan.ids import Digest
from ravan.manifest.phases import DropReason

A, B = Digest(b"a" * 32), Digest(b"b" * 32)


def test_pauses_grow_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(longest_s=4.0, uniform=lambda _, high: high)
    assert [backoff.next_pause_s() for _ in range(6)] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 4.0, 4.0, 4.0]
    backoff.succeeded()
    assert backoff.next_pause_s() == FIRST_S


def test_pauses_are_drawn_from_the_upper_half() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    backoff = Backoff(uniform=uniform)
    for _ in range(100):
        backoff.next_pause_s()
    assert all(low == high / 2 for low, high in asked)
    assert asked[-1] == (15.0, 30.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("", reason=ErrorReason.DATA_MISSING), DropReason.DATA),
        (DataError("", reason=ErrorReason.MALFORMED), DropReason.DATA),
        (ResourceError("", reason=ErrorReason.MEMORY_LIMIT), DropReason.MEMORY),
        (ResourceError("", reason=ErrorReason.DISK_FULL), DropReason.DISK),
        (StateError("", reason=ErrorReason.PERMISSION_DENIED), DropReason.REFUSED),
        (ModelError("", reason=ErrorReason.MODEL_INVALID), DropReason.REFUSED),
        (IdentityError("", reason=ErrorReason.IDENTITY_MISMATCH), DropReason.REFUSED),
        (IdentityError("", reason=ErrorReason.MALFORMED), DropReason.REFUSED),
        (ProtocolError("", reason=ErrorReason.SIGNATURE_INVALID), DropReason.PROTOCOL),
        (TransferError("", reason=ErrorReason.HASH_MISMATCH), DropReason.INTERNAL),
        (MemoryError(), DropReason.MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), DropReason.MEMORY),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), DropReason.INTERNAL),
    ],
)
def test_reasons(error: Exception, reason: DropReason) -> None:
    assert drop_reason(error) is reason


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_work_is_done_one_after_the_other(lane: Lane) -> None:
    order: list[str] = []
    done = asyncio.Event()

    async def work(name: str) -> None:
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")

    async def last() -> None:
        done.set()

    lane.submit(A, lambda: work("first"))
    lane.submit(B, lambda: work("second"))
    lane.submit(A, last)
    await done.wait()
    assert order == ["first begins", "first ends", "second begins", "second ends"]


async def test_cancelling_ends_what_runs_and_drops_what_waits_for_the_same(lane: Lane) -> None:
    began, other_done = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def dropped() -> None:
        seen.append("dropped work ran")

    async def other() -> None:
        other_done.set()

    lane.submit(A, endless)
    lane.submit(A, dropped)
    lane.submit(B, other)
    await began.wait()
    await lane.cancel(B)
    assert seen == []
    lane.submit(B, other)
    await lane.cancel(A)
    assert seen == ["ended"]
    await other_done.wait()
    assert seen == ["ended"]


async def test_a_lane_without_work_rests_once_until_there_is_some() -> None:
    resting, worked = asyncio.Queue[str](), asyncio.Event()
    loop = asyncio.get_running_loop()
    lane = Lane(rest_after_s=0.01)
    lane.when_idle(lambda: loop.call_soon_threadsafe(resting.put_nowait, threading.current_thread().name))

    async def work() -> None:
        worked.set()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(lane.run())
        assert (await resting.get()).startswith("work")
        await asyncio.sleep(0.1)
        assert resting.empty()
        lane.submit(A, work)
        await worked.wait()
        await resting.get()
        running.cancel()


async def test_a_lane_that_is_to_stay_ready_does_not_rest() -> None:
    rested: list[str] = []
    lane = Lane()
    lane.when_idle(lambda: rested.append("rested"))
    running = asyncio.create_task(lane.run())
    await asyncio.sleep(0.05)
    running.cancel()
    assert rested == []


async def test_a_thread_is_told_and_waited_for(lane: Lane) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def blocking(cancelled: threading.Event) -> None:
        loop.call_soon_threadsafe(began.set)
        assert cancelled.wait(30)
        ended.set()

    async def work() -> None:
        await lane.in_thread(blocking)

    lane.submit(A, work)
    await began.wait()
    await lane.cancel(A)
    assert ended.is_set()


async def test_a_thread_s_result_and_error_come_back(lane: Lane) -> None:
    def failing(_: threading.Event) -> None:
        raise ValueError("no")

    assert await lane.in_thread(lambda _: threading.current_thread().name) == "work_0"
    with pytest.raises(ValueError, match="no"):
        await lane.in_thread(failing)
