"""Errors over the wire: reason to gRPC status, detail to trailing metadata, and back to the error at the client."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from ravan.codec.enums import ERROR_REASON
from ravan.errors import (
    ConfigError,
    DataError,
    ErrorReason,
    IdentityError,
    ModelError,
    ProtocolError,
    RavanError,
    ResourceError,
    StateError,
    TransferError,
)
from ravan.wire.v1 import errors_pb2

DETAIL_KEY: Final = "ravan-error-bin"

_TEXT_BYTES: Final = 1000
"""Metadata of a call must stay below 8 KiB, and gRPC triples the bytes of non-ASCII text."""

REASONS: Final[dict[ErrorReason, tuple[StatusCode, type[RavanError]]]] = {
    ErrorReason.CONFIG_INVALID: (StatusCode.INVALID_ARGUMENT, ConfigError),
    ErrorReason.DATA_UNREADABLE: (StatusCode.INVALID_ARGUMENT, DataError),
    ErrorReason.DATA_UNKNOWN_LABEL: (StatusCode.INVALID_ARGUMENT, DataError),
    ErrorReason.DATA_MISSING: (StatusCode.FAILED_PRECONDITION, DataError),
    ErrorReason.DATA_TOO_FEW: (StatusCode.FAILED_PRECONDITION, DataError),
    ErrorReason.MODEL_MISSING: (StatusCode.NOT_FOUND, ModelError),
    ErrorReason.MODEL_INVALID: (StatusCode.INVALID_ARGUMENT, ModelError),
    ErrorReason.ADAPTER_TOO_LARGE: (StatusCode.INVALID_ARGUMENT, ConfigError),
    ErrorReason.COHORT_UNREACHABLE: (StatusCode.FAILED_PRECONDITION, ConfigError),
    ErrorReason.TOKEN_UNKNOWN: (StatusCode.UNAUTHENTICATED, IdentityError),
    ErrorReason.TOKEN_USED: (StatusCode.UNAUTHENTICATED, IdentityError),
    ErrorReason.TOKEN_EXPIRED: (StatusCode.UNAUTHENTICATED, IdentityError),
    ErrorReason.JOIN_STRING_INVALID: (StatusCode.INVALID_ARGUMENT, IdentityError),
    ErrorReason.IDENTITY_MISMATCH: (StatusCode.PERMISSION_DENIED, IdentityError),
    ErrorReason.IDENTITY_IN_USE: (StatusCode.FAILED_PRECONDITION, IdentityError),
    ErrorReason.IDENTITY_REVOKED: (StatusCode.PERMISSION_DENIED, IdentityError),
    ErrorReason.IDENTITY_EXPIRED: (StatusCode.PERMISSION_DENIED, IdentityError),
    ErrorReason.PERMISSION_DENIED: (StatusCode.PERMISSION_DENIED, IdentityError),
    ErrorReason.HASH_MISMATCH: (StatusCode.DATA_LOSS, TransferError),
    ErrorReason.CHUNK_CORRUPT: (StatusCode.DATA_LOSS, TransferError),
    ErrorReason.OFFSET_MISMATCH: (StatusCode.OUT_OF_RANGE, TransferError),
    ErrorReason.BLOB_MISSING: (StatusCode.NOT_FOUND, TransferError),
    ErrorReason.TOO_LARGE: (StatusCode.RESOURCE_EXHAUSTED, TransferError),
    ErrorReason.DISK_FULL: (StatusCode.RESOURCE_EXHAUSTED, ResourceError),
    ErrorReason.MEMORY_LIMIT: (StatusCode.RESOURCE_EXHAUSTED, ResourceError),
    ErrorReason.PORT_IN_USE: (StatusCode.FAILED_PRECONDITION, ResourceError),
    ErrorReason.UNREACHABLE: (StatusCode.UNAVAILABLE, ResourceError),
    ErrorReason.NOT_FOUND: (StatusCode.NOT_FOUND, StateError),
    ErrorReason.ALREADY_EXISTS: (StatusCode.ALREADY_EXISTS, StateError),
    ErrorReason.WRONG_STATE: (StatusCode.FAILED_PRECONDITION, StateError),
    ErrorReason.DEADLINE_MISSING: (StatusCode.INVALID_ARGUMENT, ProtocolError),
    ErrorReason.TOO_MANY_CALLS: (StatusCode.RESOURCE_EXHAUSTED, StateError),
    ErrorReason.MALFORMED: (StatusCode.INVALID_ARGUMENT, ProtocolError),
    ErrorReason.SIGNATURE_INVALID: (StatusCode.INVALID_ARGUMENT, ProtocolError),
    ErrorReason.PROTOCOL_VIOLATION: (StatusCode.FAILED_PRECONDITION, ProtocolError),
    ErrorReason.THRESHOLD_MISSED: (StatusCode.ABORTED, ProtocolError),
    ErrorReason.HOST_BUSY: (StatusCode.FAILED_PRECONDITION, ResourceError),
    ErrorReason.CANARY_MISMATCH: (StatusCode.DATA_LOSS, ProtocolError),
    ErrorReason.INTERNAL: (StatusCode.INTERNAL, StateError),
}
"""Status on the wire, and the kind of error that the client raises."""


def status_of(reason: ErrorReason) -> StatusCode:
    """Return the gRPC status of a reason."""
    return REASONS[reason][0]


def detail_of(error: RavanError) -> bytes:
    """Serialise what the caller may know of the error, for the trailing metadata."""
    detail = errors_pb2.ErrorDetail(
        reason=ERROR_REASON.to_wire(error.reason),
        message=shortened(str(error)),
        next_step=shortened(error.next_step),
    )
    return detail.SerializeToString(deterministic=True)


def shortened(text: str) -> str:
    """Cut a text to what metadata holds."""
    raw = text.encode()
    return text if len(raw) <= _TEXT_BYTES else raw[: _TEXT_BYTES - 3].decode(errors="ignore") + "..."


def error_from_rpc(error: aio.AioRpcError, *, address: str, authority: str) -> RavanError:
    """Turn a failed call into an error with a sentence.

    `address` is the `host:port` that was called, `authority` names the CA that the client trusts
    (`ravan.identity.certificates.describe_authority`).
    """
    detailed = _detailed(error)
    if detailed is not None:
        return detailed
    if error.code() is StatusCode.UNAVAILABLE:
        return _unavailable(f"{error.details()} {error.debug_error_string()}".lower(), address, authority)
    return _bare(error, address)


def is_turned_away(error: aio.AioRpcError) -> bool:
    """Tell whether gRPC itself ended a call because the port has too many; it says so only in prose."""
    return error.code() is StatusCode.RESOURCE_EXHAUSTED and "concurrent rpc limit" in (error.details() or "").lower()


def _detailed(error: aio.AioRpcError) -> RavanError | None:
    metadata = error.trailing_metadata()
    raw = metadata.get(DETAIL_KEY) if metadata else None
    if not isinstance(raw, bytes):
        return None
    try:
        detail = errors_pb2.ErrorDetail.FromString(raw)
    except DecodeError:
        return None
    reason = ERROR_REASON.from_wire(detail.reason)
    return REASONS[reason][1](detail.message, reason=reason, next_step=detail.next_step)


def _unavailable(text: str, address: str, authority: str) -> RavanError:
    """Tell apart why there is no connection; gRPC says it only in prose (lower-case here)."""
    if refusal := re.search(r"proxy returned response code (\d+)", text):
        return _refused_by_proxy(address, int(refusal[1]))
    if "certificate_verify_failed" in text or "hostname verification" in text or "not match target name" in text:
        return unproven(address, authority)
    if "ssl" in text or "handshake" in text:
        return IdentityError(
            f"{address} broke off the TLS handshake; this side trusts {authority}.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Check that the port is the coordinator's and that this certificate comes from the same CA.",
        )
    if "socket closed" in text or "connection reset" in text:
        return ResourceError(
            f"The coordinator at {address} closed the connection.",
            reason=ErrorReason.UNREACHABLE,
            next_step="It may be restarting. If this stays so, it does not accept this side's certificate:"
            f" check that it has not expired and comes from {authority}.",
        )
    if "hostname lookup" in text or "dns" in text:
        return ResourceError(
            f"The host name in {address} cannot be resolved.",
            reason=ErrorReason.UNREACHABLE,
            next_step="Check the name and this machine's DNS, or add the name to its hosts file.",
        )
    return ResourceError(
        f"The coordinator at {address} cannot be reached.",
        reason=ErrorReason.UNREACHABLE,
        next_step="Check that it runs, and that a firewall lets this machine out to that port.",
    )


def _refused_by_proxy(address: str, code: int) -> ResourceError:
    if code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        sentence, next_step = "asks for another user or password", "Check `proxy` and its password in [agent]."
    elif code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        sentence, next_step = "does not reach it", "Check that the coordinator runs and that the proxy gets there."
    else:
        sentence, next_step = (
            "does not let this machine out to it",
            "Have the proxy allow CONNECT to that host and port.",
        )
    return ResourceError(
        f"No connection to {address}: the proxy {sentence} (HTTP {code}).",
        reason=ErrorReason.UNREACHABLE,
        next_step=next_step,
    )


def unproven(address: str, authority: str) -> IdentityError:
    """Return the error for a peer whose certificate is not the coordinator's."""
    return IdentityError(
        f"{address} did not prove to be the coordinator: its certificate is not for this address"
        f" or not from {authority}.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Check address and clock; if HQ was set up anew, enrol again with a new join string.",
    )


def _bare(error: aio.AioRpcError, address: str) -> RavanError:
    code = error.code()
    if code is StatusCode.DEADLINE_EXCEEDED:
        return ResourceError(
            f"The coordinator at {address} did not answer in time.",
            reason=ErrorReason.UNREACHABLE,
            next_step="Try again; if it stays so, look at the coordinator's load and at the line to HQ.",
        )
    if code is StatusCode.UNIMPLEMENTED:
        return StateError(
            f"The program at {address} does not know this call.",
            reason=ErrorReason.WRONG_STATE,
            next_step="Check the port, and that both sides run the same version.",
        )
    if is_turned_away(error):
        return StateError(
            f"The coordinator at {address} has more calls in progress than it takes.",
            reason=ErrorReason.TOO_MANY_CALLS,
            next_step="Try again in a moment.",
        )
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return TransferError(f"{address} refused the message: {error.details()}.", reason=ErrorReason.TOO_LARGE)
    return StateError(
        f"The call to {address} failed: {code.name}.",
        reason=ErrorReason.INTERNAL,
        next_step="Look at the coordinator's log at this time.",
    )
