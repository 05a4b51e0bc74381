"""What a round comes to whose worker gave up, and what its operator reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ravan.errors import ErrorReason, RavanError
from ravan.manifest.phases import RoundOutcome

_SEE_LOG: Final = "The coordinator failed in this round; its log has the trace."

_OUTCOME_OF: Final[Mapping[ErrorReason, RoundOutcome]] = {
    ErrorReason.CANARY_MISMATCH: RoundOutcome.CANARY_MISMATCH,
    # What can be wrong with a base model was found out at submission: this is a version that is not finite.
    ErrorReason.MODEL_INVALID: RoundOutcome.REFUSED,
}

_PASSING: Final = frozenset({ErrorReason.DISK_FULL, ErrorReason.UNREACHABLE})
"""What an operator can put right; the round waits for that, with all that its sites have sent."""


def will_pass(error: Exception) -> bool:
    """Tell whether the same work can succeed once somebody has seen to it."""
    return isinstance(error, RavanError) and error.reason in _PASSING


def explain_failure(error: Exception) -> tuple[RoundOutcome, str]:
    """Return how the round ends and why, one or two sentences."""
    if not isinstance(error, RavanError):
        return RoundOutcome.INTERNAL, _SEE_LOG
    return _OUTCOME_OF.get(error.reason, RoundOutcome.INTERNAL), f"{error} {error.next_step}".strip()
