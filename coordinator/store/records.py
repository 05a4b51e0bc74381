"""What the database holds, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ravan.ids import BlockId, Digest, JobId, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase
from ravan.manifest.plan import ModelFile
from ravan.manifest.profile import HardwareProfile, JobProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A one-time enrolment token; the secret itself is never stored."""

    token_id: str
    secret_hash: bytes = field(repr=False)
    site: SiteId
    created_at: float
    expires_at: float
    used_at: float | None = None
    keys_hash: bytes | None = None
    """SHA-256 over the two keys that used it: the same keys may ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRecord:
    """An enrolled site."""

    name: SiteId
    identity_key: bytes
    """Ed25519 public key, 32 bytes."""
    certificate_pem: bytes
    certificate_serial: str
    """Hexadecimal."""
    certificate_expires_at: float
    enrolled_at: float
    last_seen: float = 0.0
    revoked_at: float | None = None
    hardware: HardwareProfile | None = None
    endorsement: bytes = b""
    """The owner's signature under name and identity key; empty when there is none. A new identity needs a new one."""
    previous_serial: str = ""
    """Of the certificate that the newest was renewed from; empty when there is none. Good until it expires."""
    previous_expires_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """What a call that changed something was answered, for its repetitions."""

    request_id: str
    call_hash: bytes
    """SHA-256 of method and request: another call may not use the id."""
    answer: bytes
    """The response, serialised; nothing secret."""
    answered_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A base model that was taken in."""

    name: str
    files: tuple[ModelFile, ...]
    """By path."""
    digest: Digest
    model_type: str
    parameters: int
    added_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job."""

    job_id: JobId
    name: str
    state: JobState
    message: str
    """What it waits for, which heads nobody trains, or why it ended."""
    submitted_at: float
    request_id: str
    job_toml: str
    plan: SignedDocument
    model: str
    evaluation_digest: Digest
    rounds_planned: int
    state_digest: Digest
    """Newest committed version."""
    accuracy_before: float | None = None
    accuracy: float | None = None
    loss_before: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRecord:
    """A site that left a round."""

    site: SiteId
    phase: RoundPhase
    reason: DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRoundRecord:
    """What one site did in a round."""

    site: SiteId
    heads: int
    """Heads allotted, over all matrices."""
    ram_limit_bytes: int
    """Limit that the allocation was made from."""
    upload_bytes: int = 0
    peak_rss_bytes: int = 0
    extra_peak_bytes: int = 0
    step_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One round, complete enough for an operator and for recomputation."""

    job_id: JobId
    number: int
    phase: RoundPhase
    outcome: RoundOutcome | None
    started_at: float
    deadline_at: float = 0.0
    """When the phase's deadline passes; 0 when it has none."""
    phase_seconds: dict[RoundPhase, float] = field(default_factory=dict)
    selected: tuple[SiteId, ...] = ()
    completed: tuple[SiteId, ...] = ()
    dropped: tuple[DropRecord, ...] = ()
    sites: tuple[SiteRoundRecord, ...] = ()
    cohorts: dict[BlockId, int] = field(default_factory=dict)
    """Survivors per head block; 0 when withheld."""
    scores: dict[BlockId, float] = field(default_factory=dict)
    """Mean score per head, 0 to 1, of those whose scores were wanted and released."""
    withheld: tuple[BlockId, ...] = ()
    accuracy: float | None = None
    loss: float | None = None
    clip_rate: float | None = None
    training_loss: float | None = None
    state_digest: Digest = Digest(b"")  # noqa: RUF009 - a NewType: the value is immutable bytes
    sums_digest: Digest = Digest(b"")  # noqa: RUF009 - a NewType: the value is immutable bytes
    clips: dict[BlockId, float] = field(default_factory=dict)
    """Clip of each block in this round; the next round's follow from it."""


class EntryKind(StrEnum):
    """What an entry of a running round tells; see `coordinator.rounds.journal`."""

    OPENED = "opened"
    MEMBER = "member"
    BEGUN = "begun"
    MESSAGE = "message"
    UPLOAD = "upload"
    GONE = "gone"
    DEADLINE = "deadline"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """Something that a running round has heard."""

    kind: EntryKind
    at: float = 0.0
    """Seconds since the epoch."""
    site: str = ""
    word: str = ""
    """A reason, a state or a time, by kind."""
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProfileRecord:
    """What one job costs at one site."""

    job_id: JobId
    site: SiteId
    profile: JobProfile
