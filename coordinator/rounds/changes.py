"""Tell whoever watches a job that it changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from ravan.ids import JobId


class Changes:
    """Count the changes of each job; versions start at 1 with the first."""

    def __init__(self) -> None:
        self._versions: defaultdict[JobId, int] = defaultdict(int)
        self._signals: dict[JobId, asyncio.Event] = {}

    def note(self, job_id: JobId) -> None:
        """Note that a job changed."""
        self._versions[job_id] += 1
        signal = self._signals.pop(job_id, None)
        if signal is not None:
            signal.set()

    async def beyond(self, job_id: JobId, version: int) -> int:
        """Wait until the job's version is beyond this one, and return it."""
        while self._versions[job_id] <= version:
            await self._signals.setdefault(job_id, asyncio.Event()).wait()
        return self._versions[job_id]
