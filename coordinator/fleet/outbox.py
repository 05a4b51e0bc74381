"""Instructions on their way to sites: written to the store first, then told to whoever watches."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from coordinator.daemon.turnstile import Turnstile
from coordinator.store.base import Store, Transaction
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import Instruction, Numbered

AT_ONCE: Final = 16
"""Streams that read and send what is new for them at the same time: an assignment of a thousand sites has 100 KB."""

SLOW_S: Final = 2.0
"""How long a slow line counts among them."""


class Outbox:
    """One resumable stream of instructions a site."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turnstile = Turnstile(AT_ONCE, period_s=SLOW_S, least_bytes=1)
        self._signals: defaultdict[SiteId, asyncio.Event] = defaultdict(asyncio.Event)

    async def send(self, site: SiteId, instruction: Instruction, *, job_id: JobId, round_number: int) -> int:
        """Store an instruction, wake the site's stream and return the sequence number."""

        def work(transaction: Transaction) -> int:
            return transaction.add_instruction(site, instruction, job_id=job_id, round_number=round_number)

        sequence = await self._store.transact("send_instruction", work)
        self.wake(site)
        return sequence

    def wake(self, site: SiteId) -> None:
        """Tell the site's stream to look again, as after instructions that another transaction stored."""
        # waiters hold the old signal; the next one to wait gets a fresh one
        self._signals.pop(site, asyncio.Event()).set()

    def wake_all(self) -> None:
        """Tell every stream to look again."""
        for site in tuple(self._signals):
            self.wake(site)

    async def after(self, site: SiteId, sequence: int) -> Sequence[Numbered]:
        """Return the site's instructions beyond a sequence number, in order."""
        return await self._store.transact(
            "read_instructions", lambda transaction: transaction.instructions_after(site, sequence)
        )

    async def follow(self, site: SiteId, sequence: int, *, is_open: Callable[[], bool]) -> AsyncGenerator[Numbered]:
        """Yield the site's instructions beyond a sequence number as they come, until `is_open` says no."""
        while is_open():
            signal = self._signals[site]  # taken before reading, so that nothing falls between the two
            async with self._turnstile.entry():
                for numbered in await self.after(site, sequence):
                    sequence = numbered.sequence
                    yield numbered
                    del numbered  # a stream that waits for hours must not hold the last assignment
            if is_open():
                await signal.wait()
