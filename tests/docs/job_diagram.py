"""A job's states: which it may go over to, and what the audit log says of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from coordinator.audit.chain import AuditKind
from coordinator.audit.entries import COORDINATOR, job_changed
from coordinator.store.records import JobRecord
from ravan.ids import Digest, JobId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import ENDED_JOBS, JobState

_DIGEST = Digest(hashlib.sha256(b"").digest())
_JOB = JobRecord(
    job_id=JobId("job"),
    name="job",
    state=JobState.PREPARING,
    message="",
    submitted_at=0.0,
    request_id="",
    job_toml="",
    plan=SignedDocument(payload=b"", signature=bytes(64)),
    model="model",
    evaluation_digest=_DIGEST,
    rounds_planned=1,
    state_digest=_DIGEST,
)


def list_moves() -> list[tuple[JobState, JobState, str]]:
    """Return (from, to, kind of audit record) of every move; empty where none is recorded.

    An ended job stays as it is, and none that has begun is prepared again.
    """
    going = [state for state in JobState if state not in ENDED_JOBS]
    moves = [(old, new) for old in going for new in JobState if new not in (old, JobState.PREPARING)]
    return [(old, new, _recorded(old, new)) for old, new in moves]


def draw_job() -> str:
    """Return a Mermaid diagram of them."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.PREPARING}: {AuditKind.JOB_SUBMITTED}"]
    lines += [f"    {old} --> {new}{f': {kind}' if kind else ''}" for old, new, kind in list_moves()]
    return "\n".join([*lines, *(f"    {state} --> [*]" for state in JobState if state in ENDED_JOBS)]) + "\n"


def _recorded(old: JobState, new: JobState) -> str:
    before = replace(_JOB, state=old)
    return ", ".join(entry.kind for entry in job_changed(before, replace(before, state=new), COORDINATOR))


if __name__ == "__main__":
    print(draw_job(), end="")
