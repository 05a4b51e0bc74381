"""Every error that crosses a module boundary, with a closed reason and a next step.

    RavanError
    ├── ConfigError        a configuration or job file is wrong
    ├── DataError          a site's or HQ's data file cannot be used
    ├── ModelError         a base model cannot be taken in or loaded
    ├── IdentityError      a token, key or certificate is not what it must be
    ├── TransferError      a blob did not arrive as announced
    ├── ResourceError      disk, memory or a port is missing
    ├── StateError         the request does not fit what is going on
    └── ProtocolError      a peer broke secure aggregation's rules

`str(error)` is a sentence for a person; `next_step` says what to do about it; `reason` is what
machines count. The texts never contain secrets or training data.
"""

from __future__ import annotations

from enum import StrEnum


# ruff: noqa: S105 - reasons that mention tokens are no passwords
class ErrorReason(StrEnum):
    """Why something was refused; the same names are on the wire, in the database and in metrics."""

    CONFIG_INVALID = "CONFIG_INVALID"
    DATA_UNREADABLE = "DATA_UNREADABLE"
    DATA_UNKNOWN_LABEL = "DATA_UNKNOWN_LABEL"
    DATA_MISSING = "DATA_MISSING"
    DATA_TOO_FEW = "DATA_TOO_FEW"
    MODEL_MISSING = "MODEL_MISSING"
    MODEL_INVALID = "MODEL_INVALID"
    ADAPTER_TOO_LARGE = "ADAPTER_TOO_LARGE"
    COHORT_UNREACHABLE = "COHORT_UNREACHABLE"
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"
    TOKEN_USED = "TOKEN_USED"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    JOIN_STRING_INVALID = "JOIN_STRING_INVALID"
    IDENTITY_MISMATCH = "IDENTITY_MISMATCH"
    IDENTITY_IN_USE = "IDENTITY_IN_USE"
    IDENTITY_REVOKED = "IDENTITY_REVOKED"
    IDENTITY_EXPIRED = "IDENTITY_EXPIRED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    HASH_MISMATCH = "HASH_MISMATCH"
    CHUNK_CORRUPT = "CHUNK_CORRUPT"
    OFFSET_MISMATCH = "OFFSET_MISMATCH"
    BLOB_MISSING = "BLOB_MISSING"
    TOO_LARGE = "TOO_LARGE"
    DISK_FULL = "DISK_FULL"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    PORT_IN_USE = "PORT_IN_USE"
    UNREACHABLE = "UNREACHABLE"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    WRONG_STATE = "WRONG_STATE"
    DEADLINE_MISSING = "DEADLINE_MISSING"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    MALFORMED = "MALFORMED"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    PROTOCOL_VIOLATION = "PROTOCOL_VIOLATION"
    THRESHOLD_MISSED = "THRESHOLD_MISSED"
    CANARY_MISMATCH = "CANARY_MISMATCH"
    HOST_BUSY = "HOST_BUSY"
    INTERNAL = "INTERNAL"


class RavanError(Exception):
    """Carry a sentence, a reason and a next step; never raised itself, only its kinds."""

    def __init__(self, message: str, *, reason: ErrorReason, next_step: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.next_step = next_step

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from positional arguments alone; these must survive the way out of a worker process.
        return _rebuild, (type(self), str(self), self.reason, self.next_step)


def _rebuild(kind: type[RavanError], message: str, reason: ErrorReason, next_step: str) -> RavanError:
    return kind(message, reason=reason, next_step=next_step)


class ConfigError(RavanError):
    """A configuration or job file is wrong."""


class DataError(RavanError):
    """A data file cannot be used."""


class ModelError(RavanError):
    """A base model cannot be taken in or loaded."""


class IdentityError(RavanError):
    """A token, key or certificate is not what it must be."""


class TransferError(RavanError):
    """A blob did not arrive as announced."""


class ResourceError(RavanError):
    """Disk, memory or a port is missing."""


class StateError(RavanError):
    """The request does not fit what is going on."""


class ProtocolError(RavanError):
    """A peer broke the rules of secure aggregation."""

    suspect: int | None = None
    """Member who sent what was refused, where that is neither the coordinator nor whoever is being spoken to."""
