"""How many transfers go on at once, so that the coordinator's memory does not follow the size of its fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Let transfers in a few at a time, in the order in which they came.

    A transfer keeps its place for as long as it moves `least_bytes` in every `period_s`. One over a slower line goes on
    without a place: it has little in memory, and must not hold up the others.
    """

    def __init__(self, places: int, *, period_s: float, least_bytes: int) -> None:
        self._places = asyncio.BoundedSemaphore(places)
        self._period_s = period_s
        self._least_bytes = least_bytes

    @asynccontextmanager
    async def entry(self) -> AsyncIterator[Place]:
        """Wait for a place and keep it for the length of the block, or until the transfer is found to be slow."""
        await self._places.acquire()
        place = Place(self._places, self._period_s, self._least_bytes)
        try:
            yield place
        finally:
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
