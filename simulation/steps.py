"""The steps of a round at which a simulated agent can be held or cut off."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ravan.manifest.phases import RoundPhase


class Step(StrEnum):
    """What an agent is about to do, by the phase of the coordinator that awaits it."""

    TRAIN = RoundPhase.TRAINING.value
    """Train and send its round keys."""
    SHARE = RoundPhase.SHARING.value
    """Deal shares of its secrets."""
    UPLOAD = RoundPhase.UPLOADING.value
    """Mask its update and send it."""
    CONFIRM = RoundPhase.CONFIRMING.value
    """Sign the survivor set."""
    REVEAL = RoundPhase.REVEALING.value
    """Reveal shares of the others' secrets."""


UNCOUNTED: Final = frozenset({Step.TRAIN, Step.SHARE, Step.UPLOAD})
"""An agent that is cut off at one of these is not in the sum; later it is."""
