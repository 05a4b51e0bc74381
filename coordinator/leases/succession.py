"""Leading while nobody else does, following whoever does, in turns for as long as the process runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from coordinator.leases.keeper import LeaseKeeper
from coordinator.leases.lease import Lease
from ravan.errors import RavanError

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
"""How often a process that follows looks whether it has to lead."""


class Candidate(Protocol):
    """Whoever leads or follows."""

    async def lead(self, keeper: LeaseKeeper) -> None:
        """Begin to lead under this lease; when it raises, nothing of it may stay."""
        ...

    async def stand_down(self) -> None:
        """Lead no more; what was led goes on elsewhere."""
        ...

    async def follow(self, leader: Lease) -> None:
        """Hear who leads; called again and again, also for the same leader."""
        ...


class Succession:
    """The turns of one process."""

    def __init__(self, candidate: Candidate, new_keeper: Callable[[], LeaseKeeper]) -> None:
        """Be about to lead or follow; a keeper serves for one turn."""
        self._candidate = candidate
        self._new_keeper = new_keeper
        self._keeper: LeaseKeeper | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, holder_is_dead: bool) -> None:
        """Lead, or follow whoever leads, and go on by itself; raise RavanError when neither can be."""
        await self._take_turn(holder_is_dead=holder_is_dead)
        self._task = asyncio.create_task(self._run(), name="succession")

    async def stop(self) -> None:
        """Stand down, and leave the lease to the next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._end_turn()

    async def _run(self) -> None:
        while True:
            try:
                if self._keeper is not None:
                    await self._keeper.lost.wait()
                    await self._end_turn()
                else:
                    await asyncio.sleep(LOOK_EVERY_S)
                await self._take_turn(holder_is_dead=False)
            except RavanError as error:
                log.warning("this process can neither lead nor follow; it tries again", error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _take_turn(self, *, holder_is_dead: bool) -> None:
        keeper = self._new_keeper()
        leader = await keeper.take(holder_is_dead=holder_is_dead)
        if leader is not None:
            await self._candidate.follow(leader)
            return
        try:
            await self._candidate.lead(keeper)
        except BaseException:
            await keeper.give_back()
            raise
        self._keeper = keeper

    async def _end_turn(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await self._candidate.stand_down()
            await keeper.give_back()
