"""The states of a round, and the phase that operators see for each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ravan.manifest.phases import RoundPhase


class RoundState(StrEnum):
    """What a round is waiting for."""

    PLANNED = "planned"
    """The start."""
    TRAINING = "training"
    """Round keys of those who finish training."""
    SIGNING = "signing"
    """The signature under the roster."""
    SHARING = "sharing"
    """Sealed shares of the finishers."""
    UPLOADING = "uploading"
    """Masked vectors."""
    CONFIRMING = "confirming"
    """Signatures under the survivor set."""
    REVEALING = "revealing"
    """Shares for unmasking."""
    UNMASKING = "unmasking"
    """The worker that removes the masks."""
    EVALUATING = "evaluating"
    """The worker that makes and measures the new version."""
    ENDED = "ended"
    """Nothing more."""


PHASE_OF: Final[Mapping[RoundState, RoundPhase]] = MappingProxyType(
    {
        RoundState.PLANNED: RoundPhase.TRAINING,
        RoundState.TRAINING: RoundPhase.TRAINING,
        RoundState.SIGNING: RoundPhase.SHARING,
        RoundState.SHARING: RoundPhase.SHARING,
        RoundState.UPLOADING: RoundPhase.UPLOADING,
        RoundState.CONFIRMING: RoundPhase.CONFIRMING,
        RoundState.REVEALING: RoundPhase.REVEALING,
        RoundState.UNMASKING: RoundPhase.UNMASKING,
        RoundState.EVALUATING: RoundPhase.EVALUATING,
        RoundState.ENDED: RoundPhase.ENDED,
    }
)
"""Phase by state; what metrics, records and operators are told."""

COLLECTING: Final = (
    RoundState.TRAINING,
    RoundState.SHARING,
    RoundState.UPLOADING,
    RoundState.CONFIRMING,
    RoundState.REVEALING,
)
"""States in which sites answer, in order; each has a deadline and closes when all who can answer have."""
