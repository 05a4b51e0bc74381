"""Jobs and rounds from their records and documents. Pure."""

from __future__ import annotations

from coordinator.jobs.jobfile import read_job_file
from coordinator.rounds.course import RoundSetup
from coordinator.rounds.ports import Job
from coordinator.rounds.signing import Signatory
from coordinator.store.records import JobRecord
from ravan.codec.documents import model_digest
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import SignedDocument

SUBMITTED = "job file"
"""What a submitted job file is called in sentences."""


def open_job(record: JobRecord, signatory: Signatory) -> Job:
    """Return what stays the same for a job; raise ProtocolError for a plan that another key signed."""
    plan, plan_digest = signatory.open_plan(record.plan)
    return Job(
        job_id=record.job_id,
        file=read_job_file(record.job_toml, source=SUBMITTED),
        plan=plan,
        plan_digest=plan_digest,
        model_digest=model_digest(plan.model_files),
        evaluation_digest=record.evaluation_digest,
    )


def set_up_round(job: Job, assignment: Assignment, document: SignedDocument, digest: Digest) -> RoundSetup:
    """Return what a round of a job starts from."""
    return RoundSetup(
        assignment=assignment,
        document=document,
        digest=digest,
        training_deadline_s=job.file.round.training_deadline_s,
        phase_deadline_s=job.file.round.phase_deadline_s,
    )
