"""The store's interface: named transactions over records.

Every change happens in one transaction run by `Store.transact`; the name labels its metric. The
functions given to it are plain and synchronous and run off the event loop, so they may not await.
"""

# ruff: noqa: D102 - the class says what put, get and list do

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from coordinator.leases.lease import Lease
from coordinator.store.records import (
    AnswerRecord,
    JobProfileRecord,
    JobRecord,
    ModelRecord,
    RoundEntry,
    RoundRecord,
    SiteRecord,
    TokenRecord,
)
from coordinator.work.tasks import Task
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import Instruction, Numbered

Result = TypeVar("Result")


class Transaction(Protocol):
    """Reads and writes of one transaction. `put_*` inserts or replaces by key; `get_*` returns None when absent."""

    def put_token(self, token: TokenRecord) -> None: ...
    def get_token(self, token_id: str) -> TokenRecord | None: ...
    def list_open_tokens(self) -> Sequence[TokenRecord]: ...

    def put_site(self, site: SiteRecord) -> None: ...
    def get_site(self, name: SiteId) -> SiteRecord | None: ...
    def list_sites(self) -> Sequence[SiteRecord]: ...

    def put_model(self, model: ModelRecord) -> None: ...
    def list_models(self) -> Sequence[ModelRecord]: ...

    def put_job(self, job: JobRecord) -> None: ...
    def get_job(self, job_id: JobId) -> JobRecord | None: ...
    def find_job(self, id_or_name: str) -> JobRecord | None:
        """Return the job of this id, else the newest of this name."""
        ...

    def find_job_by_request(self, request_id: str) -> JobRecord | None: ...
    def list_jobs(self) -> Sequence[JobRecord]:
        """Return all jobs, newest first."""
        ...

    def put_job_profile(self, profile: JobProfileRecord) -> None: ...
    def list_job_profiles(self, job_id: JobId) -> Sequence[JobProfileRecord]: ...

    def put_round(self, record: RoundRecord) -> None: ...
    def list_rounds(self, job_id: JobId) -> Sequence[RoundRecord]:
        """Return the job's rounds by number."""
        ...

    def add_round_entries(self, job_id: JobId, number: int, entries: Sequence[RoundEntry]) -> None: ...
    def list_round_entries(self, job_id: JobId, number: int) -> Sequence[RoundEntry]:
        """Return what a running round has heard, in order."""
        ...

    def drop_round_entries(self, job_id: JobId) -> None:
        """Forget what the rounds of a job have heard."""
        ...

    def add_instruction(self, site: SiteId, instruction: Instruction, *, job_id: JobId, round_number: int) -> int:
        """Append to the site's stream and return its sequence number (strictly increasing per site, from 1)."""
        ...

    def instructions_after(self, site: SiteId, sequence: int) -> Sequence[Numbered]: ...
    def drop_instructions(self, job_id: JobId, *, before_round: int | None = None, site: SiteId | None = None) -> None:
        """Forget a job's instructions: all, or those of rounds from 1 to before `before_round`, of one site or of all.

        Preparation instructions (round 0) go only when `before_round` is None.
        """
        ...

    def put_answer(self, answer: AnswerRecord) -> None: ...
    def get_answer(self, request_id: str) -> AnswerRecord | None: ...
    def drop_answers(self, *, before: float) -> None:
        """Forget answers that were given before this time."""
        ...

    def begin_timeline(self, timeline: bytes, at: float) -> None:
        """Name the database anew, as when it was put back to an earlier state."""
        ...

    def current_timeline(self) -> bytes:
        """Return the newest name: 16 random bytes."""
        ...

    def now(self) -> float:
        """Return the database's time, seconds since the epoch: the one clock that all processes share."""
        ...

    def get_lease(self, name: str) -> Lease | None: ...
    def put_lease(self, lease: Lease) -> None: ...

    def get_task(self, task_id: str) -> Task | None: ...
    def put_task(self, task: Task) -> None: ...
    def list_tasks(self) -> Sequence[Task]:
        """Return all tasks, those put first first."""
        ...

    def drop_tasks(self, job_id: JobId) -> None:
        """Forget the tasks of a job, whoever works at them."""
        ...


class Store(Protocol):
    """A database."""

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction on the store's own thread; roll back when it raises."""
        ...

    async def close(self) -> None:
        """Finish what is queued and release the database."""
        ...
