"""Closed lists of states, outcomes and reasons; the wire, the database and the metrics use the same names."""

from enum import StrEnum
from typing import Final


class RoundPhase(StrEnum):
    """Phase of a round, as operators and metrics see it."""

    TRAINING = "training"
    SHARING = "sharing"
    UPLOADING = "uploading"
    CONFIRMING = "confirming"
    REVEALING = "revealing"
    UNMASKING = "unmasking"
    EVALUATING = "evaluating"
    ENDED = "ended"


class RoundOutcome(StrEnum):
    """How a round ended."""

    COMMITTED = "committed"
    TOO_FEW_SITES = "too_few_sites"
    CANARY_MISMATCH = "canary_mismatch"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    INTERNAL = "internal"
    REFUSED = "refused"
    """The job's gate refused the new version."""


class DropReason(StrEnum):
    """Why a site left a round."""

    DISCONNECTED = "disconnected"
    DEADLINE = "deadline"
    RESTARTED = "restarted"
    DATA = "data"
    MEMORY = "memory"
    DISK = "disk"
    REFUSED = "refused"
    PROTOCOL = "protocol"
    LEFT = "left"
    GROUP = "group"
    """Too few others of its group or cell were left."""
    INTERNAL = "internal"


class JobState(StrEnum):
    """State of a job."""

    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


ENDED_JOBS: Final = frozenset({JobState.COMPLETED, JobState.STOPPED, JobState.FAILED})
"""States that a job does not leave."""


class SiteState(StrEnum):
    """State of a site."""

    INVITED = "invited"
    OFFLINE = "offline"
    ONLINE = "online"
    REVOKED = "revoked"


class HoldReason(StrEnum):
    """Why headquarters selects a site for no round."""

    OUTDATED = "outdated"
    """Its agent is older than the oldest that takes part."""
    UNKNOWN_VERSION = "unknown_version"
    """Its agent tells no version."""


class AgentActivity(StrEnum):
    """What an agent is doing."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    MEASURING = "measuring"
    TRAINING = "training"
    MASKING = "masking"
    UPLOADING = "uploading"
    PAUSED = "paused"
    """In the middle of training, while its PC needs itself."""
