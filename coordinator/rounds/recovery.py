"""What was left of jobs and their rounds: by an earlier process, or by this one for want of room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.jobs.jobfile import read_job_file
from coordinator.rounds.ports import Job
from coordinator.rounds.signing import Signatory
from coordinator.store.base import Transaction
from coordinator.store.records import JobRecord, RoundEntry, RoundRecord
from ravan.codec.documents import model_digest
from ravan.ids import JobId
from ravan.manifest.phases import ENDED_JOBS

SUBMITTED: Final = "job file"
"""What a submitted job file is called in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftRound:
    """A round as it was when it was left."""

    record: RoundRecord
    entries: tuple[RoundEntry, ...]


def list_left_jobs(transaction: Transaction) -> list[tuple[JobRecord, LeftRound | None]]:
    """Return the jobs that have not ended, oldest first, each with the round that was running."""
    active = [record for record in reversed(transaction.list_jobs()) if record.state not in ENDED_JOBS]
    return [(record, find_left_round(transaction, record.job_id)) for record in active]


def find_left_round(transaction: Transaction, job_id: JobId) -> LeftRound | None:
    """Return the round that was running. Whatever sites were told and have not read still holds."""
    rounds = transaction.list_rounds(job_id)
    if not rounds or rounds[-1].outcome is not None:
        return None
    entries = transaction.list_round_entries(job_id, rounds[-1].number)
    return LeftRound(record=rounds[-1], entries=tuple(entries))


def open_job(signatory: Signatory, record: JobRecord) -> Job:
    """Return what stays the same for a stored job in all of its rounds."""
    plan, plan_digest = signatory.open_plan(record.plan)
    return Job(
        job_id=record.job_id,
        file=read_job_file(record.job_toml, source=SUBMITTED),
        plan=plan,
        plan_digest=plan_digest,
        model_digest=model_digest(plan.model_files),
        evaluation_digest=record.evaluation_digest,
    )
