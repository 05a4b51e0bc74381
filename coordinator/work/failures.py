"""Errors of a task as JSON values and back, so that whoever waits for it raises what was raised. Pure."""

from __future__ import annotations

from typing import Final

from coordinator.work.tasks import Values
from ravan import errors
from ravan.errors import ErrorReason, RavanError, ResourceError, StateError

_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        errors.ConfigError,
        errors.DataError,
        errors.ModelError,
        errors.IdentityError,
        errors.TransferError,
        errors.ResourceError,
        errors.StateError,
        errors.ProtocolError,
    )
}


def failure_of(error: Exception, holder: str) -> Values:
    """Describe an error; of one that nobody foresaw only whose log has it."""
    if not isinstance(error, RavanError):
        error = StateError(
            f"The work failed at {holder}; its log has the trace.", reason=ErrorReason.INTERNAL, next_step=""
        )
    kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
    return {"kind": kind, "reason": error.reason.value, "message": str(error), "next_step": error.next_step}


def error_of(failure: Values) -> RavanError:
    """Return the error again."""
    kind = _KINDS[failure["kind"]]
    return kind(failure["message"], reason=ErrorReason(failure["reason"]), next_step=failure["next_step"])


def is_final(error: Exception) -> bool:
    """Tell whether another attempt must end in the same way: the work is a function of its arguments."""
    return isinstance(error, RavanError) and not isinstance(error, ResourceError)
