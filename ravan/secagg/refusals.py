"""Sentences and reasons for everything that secure aggregation refuses."""

from __future__ import annotations

from ravan.errors import ErrorReason, ProtocolError, RavanError, StateError

_LOOK_AT_LOGS = "Compare the logs of coordinator and site; the round is given up and the next one starts afresh."


def violation(sentence: str) -> ProtocolError:
    """Return the error for a peer that broke a rule of the protocol."""
    return ProtocolError(sentence, reason=ErrorReason.PROTOCOL_VIOLATION, next_step=_LOOK_AT_LOGS)


def malformed(sentence: str) -> ProtocolError:
    """Return the error for bytes that do not have the shape they must have."""
    return ProtocolError(sentence, reason=ErrorReason.MALFORMED, next_step=_LOOK_AT_LOGS)


def bad_signature(sentence: str) -> ProtocolError:
    """Return the error for a signature that does not verify."""
    return ProtocolError(
        sentence,
        reason=ErrorReason.SIGNATURE_INVALID,
        next_step="Check that the site's identity key is the one it was enrolled with.",
    )


def below_threshold(sentence: str) -> ProtocolError:
    """Return the error for a crowd that is too small to hide a member in."""
    return ProtocolError(
        sentence,
        reason=ErrorReason.THRESHOLD_MISSED,
        next_step="Bring more sites into the round, or lower the job's minimum cohort where policy allows it.",
    )


def bad_canary(sentence: str) -> ProtocolError:
    """Return the error for a sum whose masks did not cancel."""
    return ProtocolError(sentence, reason=ErrorReason.CANARY_MISMATCH, next_step=_LOOK_AT_LOGS)


def out_of_turn(state: str, message: str) -> RavanError:
    """Return the error for input `message` that state `state` does not take."""
    return StateError(
        f"Secure aggregation is in state {state}, which does not take '{message}'.",
        reason=ErrorReason.WRONG_STATE,
        next_step="Drop the message; a site that is behind waits for the next round.",
    )
