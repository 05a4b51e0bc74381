"""How many transfers begin at once, so that the coordinator's memory does not follow the size of its fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Let transfers in a few at a time, in the order in which they came.

    A transfer over a quick line has ended before its place is wanted back. One over a slow line keeps no place longer
    than `longest_s` and goes on without: what it has in memory is what its line brings while nobody reads, and it must
    not hold up the others.
    """

    def __init__(self, places: int, longest_s: float) -> None:
        self._places = asyncio.BoundedSemaphore(places)
        self._longest_s = longest_s

    @asynccontextmanager
    async def entry(self) -> AsyncIterator[None]:
        """Wait for a place and keep it for the length of the block, or for `longest_s`."""
        await self._places.acquire()
        place = _Place(self._places)
        overdue = asyncio.get_running_loop().call_later(self._longest_s, place.leave)
        try:
            yield
        finally:
            overdue.cancel()
            place.leave()


class _Place:
    """One of the places, given back once."""

    def __init__(self, places: asyncio.BoundedSemaphore) -> None:
        self._places = places
        self._left = False

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._places.release()
