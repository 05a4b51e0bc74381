"""Which closed reason the coordinator is told when something fails; the sentence stays in the site's log."""

from __future__ import annotations

from edge_agent.hardware.guard import ran_out_of_memory
from edge_agent.session.events import RoundFailed
from ravan.errors import DataError, ErrorReason, IdentityError, ModelError, ProtocolError, RavanError
from ravan.ids import Digest
from ravan.manifest.phases import DropReason

_BY_REASON = {
    ErrorReason.DISK_FULL: DropReason.DISK,
    ErrorReason.MEMORY_LIMIT: DropReason.MEMORY,
    ErrorReason.HOST_BUSY: DropReason.LEFT,
    ErrorReason.PERMISSION_DENIED: DropReason.REFUSED,
    # A message that came when the other side was elsewhere in the round.
    ErrorReason.WRONG_STATE: DropReason.PROTOCOL,
}


def round_failure(assignment_digest: Digest, error: Exception) -> RoundFailed:
    """Return the event for a round in which a step failed."""
    suspect = error.suspect if isinstance(error, ProtocolError) else None
    return RoundFailed(assignment_digest=assignment_digest, reason=drop_reason(error), suspect=suspect)


def drop_reason(error: Exception) -> DropReason:
    """Return the reason to leave a round or a preparation with."""
    if isinstance(error, DataError):
        return DropReason.DATA
    if isinstance(error, ProtocolError):
        return DropReason.PROTOCOL
    # Another site's key has changed, or nobody can say whether it has.
    if isinstance(error, ModelError | IdentityError):
        return DropReason.REFUSED
    if isinstance(error, RavanError):
        return _BY_REASON.get(error.reason, DropReason.INTERNAL)
    if ran_out_of_memory(error):
        return DropReason.MEMORY
    return DropReason.INTERNAL
