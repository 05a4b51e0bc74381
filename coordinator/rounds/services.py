"""Everything that conductor, jobs and rounds share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from coordinator.audit.log import AuditLog
from coordinator.rounds.candidates import Candidates
from coordinator.rounds.changes import Changes
from coordinator.rounds.ports import Mailbox, RoundMetrics, StagedUploads, Timers, Workshop
from coordinator.rounds.signing import Signatory
from coordinator.rounds.turns import Turns
from coordinator.store.base import Store
from ravan.clock import Clock
from ravan.errors import RavanError
from ravan.tracing.recording import Tracer

log = structlog.stdlib.get_logger(__name__)


class Errands:
    """Tasks that run beside whoever started them; a failure is logged, none is lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run this beside the caller."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    async def stop(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A refusal explains itself; a trace is for what nobody foresaw.
            trace = None if isinstance(error, RavanError) else error
            log.error("a task of a round failed", task=task.get_name(), error=str(error), exc_info=trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the rounds' shell works with."""

    store: Store
    workshop: Workshop
    signatory: Signatory
    mailbox: Mailbox
    uploads: StagedUploads
    metrics: RoundMetrics
    timers: Timers
    clock: Clock
    minimum_agent_version: str = ""
    """Oldest agent that takes part in any job; empty: any."""
    candidates: Candidates = field(default_factory=Candidates)
    turns: Turns = field(default_factory=Turns)
    changes: Changes = field(default_factory=Changes)
    errands: Errands = field(default_factory=Errands)
    tracer: Tracer = field(default_factory=Tracer)

    @property
    def audit(self) -> AuditLog:
        """Return the log that every step is recorded in."""
        return AuditLog(self.signatory.key)
