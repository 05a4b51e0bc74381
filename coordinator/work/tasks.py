"""A task: a piece of a round's heavy work that one process at a time holds under a lease. Pure.

    waiting ── take ──► running ── finish ──► done
       ▲                  │ │
       └─ give back, fail ┘ └─ fail for good, or too often ──► failed

As with the lease on the rounds, time decides only who may take a task, and its number who may write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from coordinator.leases.lease import LeaseLost
from ravan.errors import ErrorReason
from ravan.ids import JobId

TERM_S: Final = 15.0
"""How long a task is held at a time; its holder renews it while it works."""

MOST_ATTEMPTS: Final = 3
"""Attempts that may fail, or end with their process, before the task does."""

Values = Mapping[str, Any]
"""What a JSON column holds."""


class TaskKind(StrEnum):
    """What is to be done."""

    UNMASK = "unmask"
    COMBINE = "combine"
    WEIGH = "weigh"
    EVALUATE = "evaluate"


class TaskState(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


OPEN_TASKS: Final = frozenset({TaskState.WAITING, TaskState.RUNNING})
"""States of a task that is still to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row of the table of tasks."""

    task_id: str
    """Follows from what is to be done, so that whoever asks again gets what was done already."""
    kind: TaskKind
    job_id: JobId
    round_number: int
    """0: it is of no round."""
    arguments: Values
    """Digests of what it is to be made from, hexadecimal."""
    put_at: float
    """Seconds since the epoch, as all times by the database's clock."""
    state: TaskState = TaskState.WAITING
    holder: str = ""
    """Name of the process that took it last."""
    fence: int = 0
    """Rises by one each time it is taken."""
    taken_at: float = 0.0
    until: float = 0.0
    attempts: int = 0
    """How often it was taken and not given back."""
    result: Values = field(default_factory=dict)
    """What came out, or why nothing did."""

    def is_held(self, now: float) -> bool:
        """Tell whether somebody is at it."""
        return self.state is TaskState.RUNNING and now < self.until


def new_task(kind: TaskKind, job_id: JobId, round_number: int, arguments: Values, now: float) -> Task:
    """Return a task that waits."""
    digest = hashlib.sha256(json.dumps(dict(arguments), sort_keys=True).encode()).hexdigest()
    return Task(
        task_id=f"{kind}/{job_id}/{round_number}/{digest[:32]}",
        kind=kind,
        job_id=job_id,
        round_number=round_number,
        arguments=arguments,
        put_at=now,
    )


def put(known: Task | None, wanted: Task) -> Task:
    """Return the task to keep when one is asked for: what is there, begun anew where it had failed."""
    if known is None:
        return wanted
    return replace(wanted, fence=known.fence) if known.state is TaskState.FAILED else known


def take(known: Task, holder: str, now: float) -> Task | None:
    """Return the task as taken; None when there is nothing to take.

    A task that was tried too often comes back as failed, whoever its last holder was.
    """
    if known.state not in OPEN_TASKS or known.is_held(now):
        return None
    if known.attempts >= MOST_ATTEMPTS:
        return replace(known, state=TaskState.FAILED, until=now, result=known.result or _silent(known))
    return replace(
        known,
        state=TaskState.RUNNING,
        holder=holder,
        fence=known.fence + 1,
        taken_at=now,
        until=now + TERM_S,
        attempts=known.attempts + 1,
    )


def renew(known: Task | None, held: Task, now: float) -> Task:
    """Return the task with a new term; raise LeaseLost when it is another's, or nobody wants it any more."""
    return replace(_require(known, held), until=now + TERM_S)


def finish(known: Task | None, held: Task, result: Values, now: float) -> Task:
    """Return the task as done; raise LeaseLost."""
    return replace(_require(known, held), state=TaskState.DONE, until=now, result=result)


def fail(known: Task | None, held: Task, failure: Values, now: float, *, for_good: bool) -> Task:
    """Return the task after an attempt that failed: to be tried again, unless that is pointless; raise LeaseLost."""
    task = _require(known, held)
    over = for_good or task.attempts >= MOST_ATTEMPTS
    return replace(task, state=TaskState.FAILED if over else TaskState.WAITING, until=now, result=failure)


def give_back(known: Task | None, held: Task, now: float) -> Task:
    """Return the task as if this attempt had not been; raise LeaseLost."""
    task = _require(known, held)
    return replace(task, state=TaskState.WAITING, until=now, attempts=task.attempts - 1)


def _require(known: Task | None, held: Task) -> Task:
    if (
        known is None
        or known.state is not TaskState.RUNNING
        or (known.fence, known.holder) != (held.fence, held.holder)
    ):
        raise LeaseLost(
            f"The task {held.task_id} is no longer this process's.",
            reason=ErrorReason.UNREACHABLE,
            next_step="Nothing to do: another process has taken it, or its round is over.",
        )
    return known


def _silent(task: Task) -> Values:
    return {
        "kind": "ResourceError",
        "reason": ErrorReason.MEMORY_LIMIT.value,
        "message": f"{task.attempts} processes ended over the task {task.kind}, {task.holder} last.",
        "next_step": "Look at what ended them: most likely the machine has too little memory.",
    }
