"""What the agent is doing right now: for heartbeats, and for the lines that a person follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from edge_agent.hardware.memory import agent_bytes, agent_peak_bytes
from edge_agent.training.outcome import TrainingCost
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity

log = structlog.stdlib.get_logger(__name__)

LOG_EVERY_S: Final = 5.0
"""Least time between two progress lines of one activity."""

BEAT_EVERY_S: Final = 1.0
"""Least time between two heartbeats: a step of a round may take less, and a thousand sites take them together."""


class ActivityBoard:
    """Hold the current activity; safe to be told progress from the thread that works."""

    def __init__(
        self,
        process_id: bytes,
        loop: asyncio.AbstractEventLoop,
        worker_pid: Callable[[], int | None] = lambda: None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the name of this process, the loop on which heartbeats are sent, and what tells the other process.

        `wall_clock` is the PC's own, right or wrong: headquarters counts how many sites are off.
        """
        self._wall_clock = wall_clock
        self._worker_pid = worker_pid
        self._process_id = process_id
        self._loop = loop
        self._changed = asyncio.Event()
        self._activity = AgentActivity.IDLE
        self._round = 0
        self._done = 0
        self._total = 0
        self._paused = False
        self._cost: TrainingCost | None = None
        self._peak_bytes = 0
        self._said_at = 0.0
        self._shown_at = 0.0
        self._told_at = 0.0

    @contextmanager
    def doing(self, activity: AgentActivity, round_number: int = 0) -> Iterator[None]:
        """Show an activity for as long as the block lasts."""
        before = self._activity, self._round
        self._show(activity, round_number)
        try:
            yield
        finally:
            self._show(*before)

    def progress(self, done: int, total: int, **facts: Any) -> None:
        """Show progress, and now and then say it; `facts` go into the line. From any thread."""
        self._loop.call_soon_threadsafe(self._take_progress, done, total, facts)

    def training_cost(self, cost: TrainingCost) -> None:
        """Show what training costs in this round. From any thread."""
        self._loop.call_soon_threadsafe(setattr, self, "_cost", cost)

    def pause(self, paused: bool) -> None:
        """Show that training stands aside, or that it goes on."""
        self._paused = paused
        self.announce()

    def forget_cost(self) -> None:
        """Begin a round, whose costs are not known yet."""
        self._cost = None

    def heartbeat(self) -> Heartbeat:
        """Return the sign of life of now."""
        # A measurement sets the kernel's mark back, and the highest of the process is what counts.
        worker = self._worker_pid()
        self._peak_bytes = max(self._peak_bytes, agent_peak_bytes(worker))
        self._told_at = self._loop.time()
        return Heartbeat(
            process_id=self._process_id,
            activity=AgentActivity.PAUSED if self._is_held_up() else self._activity,
            round_number=self._round,
            done=self._done,
            total=self._total,
            rss_bytes=agent_bytes(worker),
            peak_rss_bytes=self._peak_bytes,
            extra_peak_bytes=self._cost.extra_peak_bytes if self._cost else 0,
            step_cpu_s=self._cost.step_cpu_s if self._cost else 0.0,
            site_time=self._wall_clock(),
        )

    def describe(self) -> str:
        """Say in a few words what is being done."""
        number = f", round {self._round}" if self._round else ""
        progress = f", {self._done} of {self._total}" if self._total else ""
        return f"{self._activity.value}{number}{progress}"

    def _is_held_up(self) -> bool:
        return self._paused and self._activity is AgentActivity.TRAINING

    def announce(self) -> None:
        """Have a heartbeat sent now."""
        self._changed.set()

    async def changed(self, at_most_s: float) -> None:
        """Wait until there is something new to tell, or so long; a while in any case, if it was just told."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(self._told_at + BEAT_EVERY_S - self._loop.time())
        self._changed.clear()

    def _show(self, activity: AgentActivity, round_number: int) -> None:
        self._activity, self._round = activity, round_number
        self._done = self._total = 0
        self._said_at = self._shown_at = self._loop.time()
        self._changed.set()

    def _take_progress(self, done: int, total: int, facts: dict[str, Any]) -> None:
        self._done, self._total = done, total
        now = self._loop.time()
        if now - self._shown_at >= BEAT_EVERY_S:
            self._shown_at = now
            self._changed.set()
        if now - self._said_at >= LOG_EVERY_S or (done == total and total):
            self._said_at = now
            named = {"round": self._round} if self._round else {}
            log.info(self._activity.value, **named, done=done, total=total, **facts)
