"""Calls that were refused for want of a right, in the audit log: each of them, but no more than a log can bear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from coordinator.audit.chain import AuditEntry
from coordinator.audit.entries import call_denied
from ravan.errors import RavanError
from ravan.identity.certificates import Caller
from ravan.rpc.admission import TokenBucket

log = structlog.stdlib.get_logger(__name__)

BURST: Final = 20
EVERY_S: Final = 60.0
"""A certificate that is refused all the time is recorded twenty times at once, then once a minute with a count."""

Append = Callable[[AuditEntry], Awaitable[object]]


class Denials:
    """Record them beside the call, which does not wait for it."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._buckets: dict[str, TokenBucket] = {}
        self._left_out: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, caller: Caller, method: str) -> None:
        """Record a refused call; from the event loop."""
        now, serial = time.monotonic(), caller.serial
        bucket = self._buckets.setdefault(serial, TokenBucket(1 / EVERY_S, BURST, now))
        if not bucket.take(now):
            self._left_out[serial] = self._left_out.get(serial, 0) + 1
            return
        entry = call_denied(caller, method, left_out=self._left_out.pop(serial, 0))
        task = asyncio.get_running_loop().create_task(self._record(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, entry: AuditEntry) -> None:
        try:
            await self._append(entry)
        except RavanError as error:
            log.error("a refused call could not be recorded", why=str(error), next_step=error.next_step)
