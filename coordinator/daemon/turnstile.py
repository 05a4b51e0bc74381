"""How many transfers go on at once, so that the coordinator's memory does not follow the size of its fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

RESERVED_S: Final = 10.0
"""How long one who was told that it is its turn may take to come."""


class Turnstile:
    """Let transfers in a few at a time, in the order in which they came.

    A transfer keeps its place for as long as it moves `least_bytes` in every `period_s`. One over a slower line goes on
    without a place: it has little in memory, and must not hold up the others.
    """

    def __init__(self, places: int, *, period_s: float, least_bytes: int) -> None:
        self._places = asyncio.BoundedSemaphore(places)
        self._period_s = period_s
        self._least_bytes = least_bytes
        self._reserved: dict[Hashable, Place | None] = {}
        """The place that a holder was given, None while it waits for one."""

    async def reserve(self, holder: Hashable) -> None:
        """Wait for a place and keep it for this holder's next entry; return at once where it waits or has one already.

        A place that nobody moves anything through is given to the next after a period, as any is. Its holder does not
        wait a second time, if it comes soon: its line is slow, not its will.
        """
        if holder in self._reserved:
            return
        self._reserved[holder] = None
        try:
            place = await self._enter()
        except BaseException:
            del self._reserved[holder]
            raise
        self._reserved[holder] = place
        asyncio.get_running_loop().call_later(RESERVED_S, self._lapse, holder, place)

    @asynccontextmanager
    async def entry(self, holder: Hashable = None) -> AsyncIterator[Place]:
        """Take the holder's place, or wait for one, until the block ends or the transfer is found to be slow."""
        place = self._reserved.get(holder)
        if place is None:
            place = await self._enter()
        else:
            del self._reserved[holder]
        try:
            yield place
        finally:
            place.leave()

    async def _enter(self) -> Place:
        await self._places.acquire()
        return Place(self._places, self._period_s, self._least_bytes)

    def _lapse(self, holder: Hashable, place: Place) -> None:
        if self._reserved.get(holder) is place:
            del self._reserved[holder]
            place.leave()


class Place:
    """One transfer's place."""

    def __init__(self, places: asyncio.BoundedSemaphore, period_s: float, least_bytes: int) -> None:
        self._places = places
        self._period_s = period_s
        self._least_bytes = least_bytes
        self._moved = 0
        self._left = False
        self._watch()

    def move(self, count: int) -> None:
        """Note that so many bytes went through."""
        self._moved += count

    def leave(self) -> None:
        """Give the place back, once."""
        self._check.cancel()
        if not self._left:
            self._left = True
            self._places.release()

    def _watch(self) -> None:
        self._check = asyncio.get_running_loop().call_later(self._period_s, self._look)

    def _look(self) -> None:
        if self._moved < self._least_bytes:
            self.leave()
        else:
            self._moved = 0
            self._watch()
