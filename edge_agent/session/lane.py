"""One piece of heavy work at a time, in order, and a way to call off what is no longer wanted."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from edge_agent.host.priority import step_back
from ravan.ids import Digest

Work = Callable[[], Coroutine[Any, Any, None]]

_Result = TypeVar("_Result")


class Lane:
    """Run submitted work one after the other; each piece is for a plan or an assignment, named by its digest."""

    def __init__(self, *, low_priority: bool = False, rest_after_s: float | None = None) -> None:
        """Do the work at usual priority, or behind every other program of the PC; rest after so long without any."""
        self._queue: deque[tuple[Digest | None, Work]] = deque()
        self._arrived = asyncio.Event()
        self._current: tuple[Digest | None, asyncio.Task[None]] | None = None
        self._rest_after_s = rest_after_s
        self._rest: Callable[[], object] | None = None
        # One thread for everything keeps the allocator's memory in one place.
        self._threads = ThreadPoolExecutor(
            1, thread_name_prefix="work", initializer=step_back if low_priority else None
        )

    def when_idle(self, rest: Callable[[], object]) -> None:
        """Have this called in the thread of the work, once in each time without any."""
        self._rest = rest

    def submit(self, purpose: Digest | None, work: Work) -> None:
        """Queue a piece of work, under None one that nobody calls off; it must handle its own errors."""
        self._queue.append((purpose, work))
        self._arrived.set()

    async def cancel(self, purpose: Digest) -> None:
        """Drop what is queued for `purpose` and end what runs for it; returns when it has ended."""
        self._queue = deque(each for each in self._queue if each[0] != purpose)
        if self._current is not None and self._current[0] == purpose:
            task = self._current[1]
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Do the work until cancelled; an error that a piece of work did not handle ends this."""
        try:
            while True:
                while self._queue:
                    await self._do(*self._queue.popleft())
                self._arrived.clear()
                await self._wait_for_work()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, function: Callable[[threading.Event], _Result]) -> _Result:
        """Run a blocking function; when cancelled, set its event and wait until it has ended."""
        cancelled = threading.Event()
        # What is logged there belongs to the same round.
        run = contextvars.copy_context().run
        future = asyncio.get_running_loop().run_in_executor(self._threads, run, function, cancelled)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            cancelled.set()
            with suppress(BaseException):
                await future
            raise

    async def _wait_for_work(self) -> None:
        if self._rest is not None and self._rest_after_s is not None:
            rest = self._rest
            try:
                async with asyncio.timeout(self._rest_after_s):
                    await self._arrived.wait()
            except TimeoutError:
                await self.in_thread(lambda _: rest())
        await self._arrived.wait()

    async def _do(self, purpose: Digest | None, work: Work) -> None:
        task = asyncio.create_task(work())
        self._current = purpose, task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            self._current = None
        if not task.cancelled():
            task.result()
