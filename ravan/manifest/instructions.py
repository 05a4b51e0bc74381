"""What the coordinator tells a site over its Watch stream."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.ids import Digest, JobId, RunId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRef:
    """Names one round and the documents that it stands on."""

    run_id: RunId
    round_number: int
    assignment_digest: Digest
    roster_digest: Digest
    """Empty until there is a roster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """First message of every stream."""

    heartbeat_interval_s: int
    coordinator_time: float
    timeline: bytes = b""
    """Another one than before says that the coordinator was put back to a backup; empty from older releases."""
    minimum_agent_version: str = ""
    """Oldest that takes part in rounds; empty where all do, and from older releases."""
    hand_over: str = ""
    """To the next certificate authority, to be verified by `ravan.identity.handover`; empty when there is none."""
    return_spread_s: float = 0.0
    """Over how long a site spreads its return when the connection breaks, since all sites may lose theirs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Get ready for a job: download and measure the model."""

    plan: SignedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train as the signed assignment says."""

    assignment: SignedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeShares:
    """Deal shares to the members of the signed roster."""

    roster: SignedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAndUpload:
    """Mask with the dealers' keys and upload."""

    round: RoundRef
    delivery: ShareDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSurvivors:
    """Check and sign the survivor set."""

    round: RoundRef
    survivors: SurvivorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """Check the signatures and reveal shares."""

    round: RoundRef
    request: RevealRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """The round is over for this site."""

    run_id: RunId
    round_number: int
    outcome: RoundOutcome
    state_digest: Digest
    """Empty unless the round was committed."""
    dropped: bool
    audit_sequence: int = 0
    """Place of the newest record in the coordinator's audit log; 0 from older releases."""
    audit_head: Digest = Digest(b"")  # noqa: RUF009 - a NewType: the value is immutable bytes
    """Head of the audit chain there, for the site to witness; empty from older releases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """The job is over."""

    job_id: JobId
    state: JobState
    state_digest: Digest = Digest(b"")  # noqa: RUF009 - a NewType: the value is immutable bytes
    """Newest committed version; empty where there is none, and from older releases."""
    round_number: int = 0
    """Round that made this version; 0 where there is none."""


Instruction = Prepare | Train | ExchangeShares | MaskAndUpload | ConfirmSurvivors | Reveal | RoundResult | JobEnded
"""Everything that carries a sequence number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """An instruction with its place in the site's stream."""

    sequence: int
    instruction: Instruction
