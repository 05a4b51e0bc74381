"""The steps of a round on their way to the store: in order, and all that waits in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from coordinator.rounds.effects import Effect
from coordinator.rounds.services import Errands
from coordinator.store.records import RoundEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenStep:
    """An event that the machine has taken, and what followed from it."""

    entries: Sequence[RoundEntry]
    effects: Sequence[Effect]
    stored: asyncio.Future[None]


class StepQueue:
    """Have one task store what has been taken, whatever becomes of the calls that brought it."""

    def __init__(
        self,
        errands: Errands,
        store: Callable[[Sequence[TakenStep]], Awaitable[None]],
        failed: Callable[[Exception], None],
    ) -> None:
        """Take what stores steps and carries them out, and who is told that it could not."""
        self._errands = errands
        self._store = store
        self._failed = failed
        self._waiting: list[TakenStep] = []
        self._storing = False

    async def put(self, entries: Sequence[RoundEntry], effects: Sequence[Effect]) -> None:
        """Return once the step is stored; raise what kept it from that."""
        taken = TakenStep(entries=entries, effects=effects, stored=asyncio.get_running_loop().create_future())
        self._waiting.append(taken)
        if not self._storing:
            self._storing = True
            self._errands.start(self._work(), "store the steps of a round")
        # A caller whose line breaks takes nothing back.
        await asyncio.shield(taken.stored)

    async def _work(self) -> None:
        """Store until there is nothing more."""
        taken: list[TakenStep] = []
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                await self._store(taken)
                for each in taken:
                    each.stored.set_result(None)
        except Exception as error:
            for each in (*taken, *self._waiting):
                each.stored.set_exception(error)
            self._waiting.clear()
            self._failed(error)
        finally:
            self._storing = False
            for each in (*taken, *self._waiting):
                each.stored.cancel()
