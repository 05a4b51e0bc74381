"""Records to rows and back. Bytes inside JSON are hexadecimal; block ids are their packed numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from coordinator.store.records import (
    AnswerRecord,
    DropRecord,
    EntryKind,
    JobProfileRecord,
    JobRecord,
    ModelRecord,
    RoundEntry,
    RoundRecord,
    SiteRecord,
    SiteRoundRecord,
    TokenRecord,
)
from coordinator.work.tasks import Task, TaskKind, TaskState
from ravan.ids import BlockId, Digest, JobId, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.manifest.plan import ModelFile
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

Row = Mapping[str, Any]
"""Column name to value."""

Document = dict[str, Any]
"""What a JSON column holds."""


def token_to_row(token: TokenRecord) -> Row:
    """Convert a token."""
    return asdict(token)


def token_from_row(row: Row) -> TokenRecord:
    """Read a token."""
    return TokenRecord(**row)


def site_to_row(site: SiteRecord) -> Row:
    """Convert a site."""
    return asdict(site)


def site_from_row(row: Row) -> SiteRecord:
    """Read a site."""
    stored = row["hardware"]
    hardware = None
    if stored is not None:
        hardware = HardwareProfile(**{**stored, "ram_limit_source": LimitSource(stored["ram_limit_source"])})
    # Sites that enrolled under an older release lack what came later.
    later = {
        "endorsement": row["endorsement"] or b"",
        "previous_serial": row["previous_serial"] or "",
        "previous_expires_at": row["previous_expires_at"] or 0.0,
    }
    return SiteRecord(**{**row, "hardware": hardware, **later})


def answer_to_row(answer: AnswerRecord) -> Row:
    """Convert an answer."""
    return asdict(answer)


def answer_from_row(row: Row) -> AnswerRecord:
    """Read an answer."""
    return AnswerRecord(**row)


def model_to_row(model: ModelRecord) -> Row:
    """Convert a base model."""
    files = [{"path": f.path, "sha256": f.sha256.hex(), "size_bytes": f.size_bytes} for f in model.files]
    return {**asdict(model), "files": files}


def model_from_row(row: Row) -> ModelRecord:
    """Read a base model."""
    files = tuple(
        ModelFile(path=f["path"], sha256=_digest(f["sha256"]), size_bytes=f["size_bytes"]) for f in row["files"]
    )
    return ModelRecord(**{**row, "files": files})


def job_to_row(job: JobRecord) -> Row:
    """Convert a job."""
    row = asdict(job)
    del row["plan"]
    return {**row, "plan_payload": job.plan.payload, "plan_signature": job.plan.signature}


def job_from_row(row: Row) -> JobRecord:
    """Read a job."""
    values = dict(row)
    plan = SignedDocument(payload=values.pop("plan_payload"), signature=values.pop("plan_signature"))
    return JobRecord(**{**values, "plan": plan, "state": JobState(values["state"])})


def entry_to_row(entry: RoundEntry) -> Row:
    """Convert what a round has heard."""
    return asdict(entry)


def entry_from_row(row: Row) -> RoundEntry:
    """Read what a round has heard."""
    return RoundEntry(**{**row, "kind": EntryKind(row["kind"])})


def job_profile_to_row(record: JobProfileRecord) -> Row:
    """Convert a job profile."""
    profile = {**asdict(record.profile), "plan_digest": record.profile.plan_digest.hex()}
    return {"job_id": record.job_id, "site": record.site, "profile": profile}


def job_profile_from_row(row: Row) -> JobProfileRecord:
    """Read a job profile."""
    stored = row["profile"]
    # JSON knows no tuples, and a row of an older release has neither list.
    lists = {name: tuple(stored.get(name, ())) for name in ("ram_reached_bytes", "step_reached_s")}
    profile = JobProfile(**{**stored, **lists, "plan_digest": _digest(stored["plan_digest"])})
    return JobProfileRecord(job_id=JobId(row["job_id"]), site=SiteId(row["site"]), profile=profile)


def task_to_row(task: Task) -> Row:
    """Convert a task."""
    values = {field.name: getattr(task, field.name) for field in fields(task)}
    return {**values, "arguments": dict(task.arguments), "result": dict(task.result)}


def task_from_row(row: Row) -> Task:
    """Read a task."""
    return Task(**{**row, "kind": TaskKind(row["kind"]), "state": TaskState(row["state"])})


ROUND_COLUMNS = (
    "job_id",
    "number",
    "phase",
    "outcome",
    "started_at",
    "deadline_at",
    "accuracy",
    "loss",
    "clip_rate",
    "training_loss",
    "state_digest",
    "sums_digest",
)
"""Fields of a round that have columns of their own; the others are in `details`."""


def round_to_row(record: RoundRecord) -> Row:
    """Convert a round."""
    details: Document = {
        "phase_seconds": dict(record.phase_seconds),
        "selected": record.selected,
        "completed": record.completed,
        "dropped": [[d.site, d.phase, d.reason] for d in record.dropped],
        "sites": [asdict(site) for site in record.sites],
        "cohorts": [[block.pack(), count] for block, count in record.cohorts.items()],
        "scores": [[block.pack(), score] for block, score in record.scores.items()],
        "withheld": [block.pack() for block in record.withheld],
        "clips": [[block.pack(), clip] for block, clip in record.clips.items()],
    }
    return {**{name: getattr(record, name) for name in ROUND_COLUMNS}, "details": details}


def round_from_row(row: Row) -> RoundRecord:
    """Read a round."""
    details = row["details"]
    columns = {name: row[name] for name in ROUND_COLUMNS}
    outcome = None if row["outcome"] is None else RoundOutcome(row["outcome"])
    return RoundRecord(
        **{**columns, "phase": RoundPhase(row["phase"]), "outcome": outcome},
        phase_seconds={RoundPhase(name): seconds for name, seconds in details["phase_seconds"].items()},
        selected=tuple(details["selected"]),
        completed=tuple(details["completed"]),
        dropped=tuple(
            DropRecord(site=site, phase=RoundPhase(phase), reason=DropReason(reason))
            for site, phase, reason in details["dropped"]
        ),
        sites=tuple(SiteRoundRecord(**site) for site in details["sites"]),
        cohorts={BlockId.unpack(block): count for block, count in details["cohorts"]},
        # Rounds of an older release have none.
        scores={BlockId.unpack(block): score for block, score in details.get("scores", [])},
        withheld=tuple(map(BlockId.unpack, details["withheld"])),
        clips={BlockId.unpack(block): clip for block, clip in details["clips"]},
    )


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text))
