"""Transfers begin a few at a time."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.daemon.turnstile import Place, Turnstile

FOR_EVER_S = 3600.0
SOON_S = 0.01


class Transfer:
    """Goes through a turnstile and stays inside until told."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.inside = asyncio.Event()
        self.end = asyncio.Event()
        self.place: Place
        self.task = asyncio.create_task(self._run(turnstile))

    async def _run(self, turnstile: Turnstile) -> None:
        async with turnstile.entry() as self.place:
            self.inside.set()
            await self.end.wait()

    async def leave(self) -> None:
        self.end.set()
        await self.task


async def inside(transfers: list[Transfer]) -> list[bool]:
    """Who is in, after everybody had many turns."""
    for _ in range(50):
        await asyncio.sleep(0)
    return [transfer.inside.is_set() for transfer in transfers]


async def test_others_wait_their_turn() -> None:
    turnstile = Turnstile(2, period_s=FOR_EVER_S, least_bytes=1)
    transfers = [Transfer(turnstile) for _ in range(4)]
    assert await inside(transfers) == [True, True, False, False]
    await transfers[1].leave()
    assert await inside(transfers) == [True, True, True, False]
    await transfers[0].leave()
    assert await inside(transfers) == [True, True, True, True]
    for transfer in transfers:
        await transfer.leave()


async def test_a_slow_one_keeps_its_place_for_a_while_only() -> None:
    turnstile = Turnstile(1, period_s=SOON_S, least_bytes=100)
    slow, following, last = (Transfer(turnstile) for _ in range(3))
    async with asyncio.timeout(30):
        await last.inside.wait()
    assert not slow.task.done()
    assert not following.task.done()
    # The semaphore would refuse a place that is given back twice.
    for transfer in (slow, following, last):
        await transfer.leave()


async def test_a_quick_one_keeps_its_place() -> None:
    turnstile = Turnstile(1, period_s=SOON_S, least_bytes=100)
    quick, following = Transfer(turnstile), Transfer(turnstile)
    await quick.inside.wait()
    loop = asyncio.get_running_loop()
    end = loop.time() + 5 * SOON_S
    while loop.time() < end:  # it moves in every turn of the loop, so between any two looks
        quick.place.move(100)
        await asyncio.sleep(0)
    assert not following.inside.is_set()
    await quick.leave()
    await following.inside.wait()
    await following.leave()


async def test_a_cancelled_one_leaves_its_place() -> None:
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    first, waiting, last = (Transfer(turnstile) for _ in range(3))
    assert await inside([first, waiting, last]) == [True, False, False]
    for transfer in (waiting, first):
        transfer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await transfer.task
    assert await inside([last]) == [True]
    await last.leave()


async def test_a_reserved_place_is_its_holders() -> None:
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    await turnstile.reserve("plant-a")
    other = Transfer(turnstile)
    assert await inside([other]) == [False]
    async with turnstile.entry("plant-a"):
        assert await inside([other]) == [False]
    assert await inside([other]) == [True]
    await other.leave()


async def test_reservations_and_entries_wait_in_one_line() -> None:
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    first = Transfer(turnstile)
    await first.inside.wait()
    reserving = asyncio.create_task(turnstile.reserve("plant-a"))
    last = Transfer(turnstile)
    await first.leave()
    assert await inside([last]) == [False]
    assert reserving.done()
    async with turnstile.entry("plant-a"):
        pass
    assert await inside([last]) == [True]
    await last.leave()


async def test_one_holder_waits_for_one_place() -> None:
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    first = Transfer(turnstile)
    await first.inside.wait()
    waiting = asyncio.create_task(turnstile.reserve("plant-a"))
    await asyncio.sleep(0)
    await turnstile.reserve("plant-a")  # answered at once: it waits already
    assert not waiting.done()
    await first.leave()
    await waiting
    await turnstile.reserve("plant-a")  # answered at once: it has a place already
    async with turnstile.entry("plant-a"):
        pass
    async with turnstile.entry():
        pass  # no second place was taken for it


async def test_a_place_that_is_not_taken_goes_to_the_next() -> None:
    turnstile = Turnstile(1, period_s=SOON_S, least_bytes=100)
    await turnstile.reserve("plant-a")
    other = Transfer(turnstile)
    async with asyncio.timeout(30):
        await other.inside.wait()
    async with turnstile.entry("plant-a") as late:
        late.move(1)  # it had its turn, and goes on without a place
    await other.leave()
    async with turnstile.entry():
        pass


async def test_a_reservation_lapses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.daemon.turnstile.RESERVED_S", SOON_S)
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    await turnstile.reserve("plant-a")
    other = Transfer(turnstile)
    async with asyncio.timeout(30):
        await other.inside.wait()
    late = asyncio.create_task(turnstile.reserve("plant-a"))
    assert await inside([other]) == [True]
    assert not late.done()
    await other.leave()
    await late


async def test_who_hangs_up_while_it_waits_takes_no_place() -> None:
    turnstile = Turnstile(1, period_s=FOR_EVER_S, least_bytes=1)
    first = Transfer(turnstile)
    await first.inside.wait()
    waiting = asyncio.create_task(turnstile.reserve("plant-a"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await first.leave()
    async with turnstile.entry():
        pass
    await turnstile.reserve("plant-a")
    async with turnstile.entry("plant-a"):
        pass
