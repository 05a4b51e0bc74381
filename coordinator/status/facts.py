"""What the status page shows, free of how it is shown and of how it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.audit.chain import AuditKind
from ravan.ids import SiteId
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState


class Absence(StrEnum):
    """Why a site has no part in the round that runs."""

    NOT_ENROLLED = "not_enrolled"
    REVOKED = "revoked"
    OFFLINE = "offline"
    HELD_BACK = "held_back"
    RESTING = "resting"
    DROPPED = "dropped"
    NOT_SELECTED = "not_selected"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """One site now."""

    name: str
    state: SiteState
    last_seen: float = 0.0
    """Seconds since the Unix epoch; 0 for never."""
    activity: AgentActivity | None = None
    share_done: float | None = None
    """Of the activity, 0 to 1; None where it has no length."""
    heads: int | None = None
    """Allotted in its newest round."""
    memory_bytes: int = 0
    """Peak of its newest round; 0 where none is known."""
    absence: Absence | None = None
    drop_reason: DropReason | None = None
    """For `Absence.DROPPED`."""
    note: str = ""
    """Sentence on an absence that has one, in English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """The round that runs."""

    number: int
    phase: RoundPhase
    deadline_at: float
    """0 where the phase has none."""
    selected: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFacts:
    """One round of the curves; a figure that was not measured is None."""

    number: int
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageFacts:
    """How many survivors each head of one committed round had."""

    round_number: int
    survivors: int
    """Of the whole round."""
    matrices: tuple[str, ...]
    """Names, by ordinal."""
    heads: int
    """In each matrix."""
    counts: Mapping[tuple[int, int], int]
    """By matrix and head; absent where nobody trained it."""
    withheld: frozenset[tuple[int, int]]
    """Trained by too few to be released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """One job."""

    job_id: str
    name: str
    state: JobState
    is_led: bool
    """Whether a process holds the lease on its rounds."""
    message: str
    rounds_planned: int
    rounds_done: int
    accuracy_before: float | None
    accuracy: float | None
    running: RoundFacts | None = None
    points: tuple[PointFacts, ...] = ()
    coverage: CoverageFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """A round that ended."""

    at: float
    job: str
    round_number: int
    outcome: RoundOutcome
    completed: int
    selected: int
    drops: tuple[tuple[SiteId, DropReason], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedFacts:
    """Something that the audit log tells, beside rounds."""

    at: float
    kind: AuditKind
    subject: str
    """Site, job, model, operator or method; empty for the coordinator itself."""
    actor: str
    """Name of the operator or site; empty for the coordinator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFacts:
    """Everything that the page shows."""

    version: str
    now: float
    addresses: tuple[tuple[str, str], ...]
    """What listens where."""
    is_known: bool = True
    """False where the coordinator did not answer in time; then there is nothing below."""
    jobs: tuple[JobFacts, ...] = ()
    """Newest first."""
    sites: tuple[SiteFacts, ...] = ()
    events: tuple[EventFacts, ...] = ()
    """Newest first."""
    deeds: tuple[DeedFacts, ...] = ()
    """Newest first."""
