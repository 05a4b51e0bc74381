"""Calls at given times, on the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ravan.clock import Clock


class LoopTimers:
    """Make calls on the event loop; the clock is read once, when a call is ordered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call_at(self, at: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Make the call at this time, or soon when it has passed."""
        return asyncio.get_running_loop().call_later(max(0.0, at - self._clock.now()), call)
