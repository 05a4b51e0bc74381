"""How a call failed, as the peer tells it: never a reason to fail in another way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from grpc import StatusCode, aio

from fuzz.target import Format, Target, require
from ravan.errors import DataError, ErrorReason, RavanError
from ravan.rpc.status import DETAIL_KEY, detail_of, error_from_rpc
from ravan.wire.v1 import errors_pb2

_CODES: Final = tuple(code for code in StatusCode if code is not StatusCode.OK)


def _understand(code: StatusCode, detail: bytes | None, prose: str) -> RavanError:
    trailing = aio.Metadata(*(((DETAIL_KEY, detail),) if detail is not None else ()))
    failure = aio.AioRpcError(code, aio.Metadata(), trailing, details=prose, debug_error_string=prose)
    return error_from_rpc(failure, address="hq:8443", authority="CN=Ravan CA")


def _read_detail(data: bytes) -> None:
    error = _understand(StatusCode.INTERNAL, data, "")
    again = _understand(StatusCode.INTERNAL, detail_of(error), "")
    require((type(again), again.reason) == (type(error), error.reason), "an error does not survive being passed on")


def _read_status(data: bytes) -> None:
    code = _CODES[data[0] % len(_CODES)] if data else StatusCode.UNKNOWN
    error = _understand(code, None, data[1:].decode(errors="replace"))
    require(bool(str(error)), "an error says nothing")


def _details() -> Iterable[bytes]:
    yield detail_of(DataError("Line 3 is no text.", reason=ErrorReason.DATA_UNREADABLE, next_step="Repair it."))


def _statuses() -> Iterable[bytes]:
    return (bytes([position]) + b"Socket closed" for position in range(len(_CODES)))


ERROR_DETAILS: Final = Target(
    name="error-details",
    formats=(
        Format(name="detail", read=_read_detail, seeds=_details, message=errors_pb2.ErrorDetail),
        Format(name="status", read=_read_status, seeds=_statuses),
    ),
    refusals={},
)
