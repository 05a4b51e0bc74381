"""Look at the PC twice a second, and hold training up while it needs itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from edge_agent.host.verdict import LASTING, HostTerms, PauseReason, Readings, find_pause
from ravan.errors import ErrorReason, ResourceError

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S: Final = 0.5


class HostWatch:
    """Have training stand aside as the PC's terms want it."""

    def __init__(self, terms: HostTerms, read: Callable[[], Readings], *on_pause: Callable[[bool], None]) -> None:
        """Take the terms, what reads the sensors, and who is told in turn that a pause begins or is over."""
        self._terms = terms
        self._read = read
        self._on_pause = on_pause
        self.reason: PauseReason | None = None
        """Why training stands aside now."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.take(await asyncio.to_thread(self._read))
            await asyncio.sleep(LOOK_EVERY_S)

    def take(self, readings: Readings) -> None:
        """Begin or end a pause by what was read."""
        before, self.reason = self.reason, find_pause(self._terms, readings, self.reason)
        if self.reason is before:
            return
        if self.reason is None:
            log.info("training goes on", after=before.value if before else "")
        else:
            log.info("training stands aside", why=self.reason.value)
        for tell in self._on_pause:
            tell(self.reason is not None)

    def check(self) -> None:
        """Raise ResourceError (HOST_BUSY) where a round that is begun now could not be trained for hours."""
        if self.reason in LASTING:
            raise ResourceError(
                f"No round is begun: {self.reason}.",
                reason=ErrorReason.HOST_BUSY,
                next_step="Nothing to do; rounds are taken again when that is over. [host] in agent.toml says when.",
            )
