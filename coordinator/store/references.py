"""Which blobs the records refer to: those that jobs need, and those of the past. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.store.records import JobRecord, ModelRecord, RoundRecord
from ravan.codec.plans import decode_plan
from ravan.ids import Digest


def model_blobs(models: Iterable[ModelRecord]) -> frozenset[Digest]:
    """Return the files of base models."""
    return frozenset(file.sha256 for model in models for file in model.files)


def job_blobs(job: JobRecord) -> frozenset[Digest]:
    """Return what a job's next round and its export need: the plan's files, held-out file, newest version."""
    return frozenset(decode_plan(job.plan.payload).files() | {job.evaluation_digest, job.state_digest})


def past_blobs(rounds: Sequence[RoundRecord], versions: int = 0) -> frozenset[Digest]:
    """Return the versions and sums of a job's newest `versions` committed rounds, and the most accurate version.

    0 means all of them. Of versions that are equally accurate the newest counts.
    """
    committed = [each for each in rounds if each.state_digest]
    kept = {digest for each in committed[-versions:] for digest in (each.state_digest, each.sums_digest)}
    best = max(committed, key=lambda each: (each.accuracy or 0.0, each.number), default=None)
    return frozenset(kept | ({best.state_digest} if best is not None else set())) - {Digest(b"")}
