"""The peer servicer: takes calls that came to another process of this coordinator as if they had come here."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are the wire's

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from coordinator.api.switchboard import Handler, Switchboard
from coordinator.api.transfer import UploadPort
from ravan.codec import fields
from ravan.codec.secagg_messages import header_from_wire
from ravan.errors import ErrorReason, StateError
from ravan.rpc.guard import Guard, GuardPolicy
from ravan.wire.v1 import peer_service_pb2 as wire
from ravan.wire.v1 import peer_service_pb2_grpc

_Context = aio.ServicerContext[Any, Any]


class RelayedContext:
    """As much of a call's context as handlers and their guard use: the caller is whom another process has checked."""

    def __init__(self, certificate: bytes, context: _Context) -> None:
        self._certificate = certificate
        self._context = context

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the certificate of whoever called the other process."""
        return {"x509_pem_cert": (self._certificate,)} if self._certificate else {}

    def time_remaining(self) -> float | None:
        """Return what is left of the caller's time."""
        return self._context.time_remaining()

    def code(self) -> object:
        """Return the status that a handler has set."""
        return self._context.code()

    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call as the handler wants it ended; the other process passes that on."""
        await self._context.abort(code, details, trailing_metadata)


class PeerServicer(peer_service_pb2_grpc.PeerServiceServicer):
    """Translate what other processes pass on."""

    def __init__(self, switchboard: Switchboard, uploads: UploadPort, policy: GuardPolicy) -> None:
        """Use the handlers of this process's time as leader, behind a guard of their own."""
        self._switchboard = switchboard
        self._uploads = uploads
        self._guard = Guard(policy)

    async def Relay(self, request: wire.RelayRequest, context: _Context) -> wire.RelayResponse:
        """Answer a call."""
        handler = self._handler_of(request.method)
        if handler.unary_unary is None or handler.response_serializer is None:
            raise _unknown(request.method)
        relayed: Any = RelayedContext(request.certificate, context)
        answer = await handler.unary_unary(_decoded(handler, request.payload), relayed)
        return wire.RelayResponse(payload=handler.response_serializer(answer))

    async def RelayStream(
        self, request: wire.RelayStreamRequest, context: _Context
    ) -> AsyncIterator[wire.RelayStreamResponse]:
        """Answer a call whose answer is a stream."""
        handler = self._handler_of(request.method)
        if handler.unary_stream is None or handler.response_serializer is None:
            raise _unknown(request.method)
        relayed: Any = RelayedContext(request.certificate, context)
        answers: Any = handler.unary_stream(_decoded(handler, request.payload), relayed)
        async with aclosing(answers):
            async for answer in answers:
                yield wire.RelayStreamResponse(payload=handler.response_serializer(answer))
        if not self._switchboard.leading:
            # Whoever relays may go on with it at the next leader; a stream that was superseded just ends.
            raise not_leading()

    async def AnnounceUpload(
        self, request: wire.AnnounceUploadRequest, context: _Context
    ) -> wire.AnnounceUploadResponse:
        """Check a header."""
        await self._uploads.announce(fields.site(request.site), *header_from_wire(request.header))
        return wire.AnnounceUploadResponse()

    async def ReportUpload(self, request: wire.ReportUploadRequest, context: _Context) -> wire.ReportUploadResponse:
        """Take a vector that lies where this process looks for it."""
        # Where it lies follows from what it is.
        await self._uploads.arrived(fields.site(request.site), *header_from_wire(request.header), Path())
        return wire.ReportUploadResponse()

    def _handler_of(self, method: str) -> Handler:
        if not self._switchboard.leading:
            raise not_leading()
        handler = self._switchboard.leading.get(method)
        if handler is None:
            raise _unknown(method)
        return self._guard.wrap(method, handler)


def not_leading() -> StateError:
    """Return the error for a call that only the leading process can answer."""
    return StateError(
        "No process leads the rounds that this one could ask.",
        reason=ErrorReason.UNREACHABLE,
        next_step="Try again in some seconds; if it stays so, look at the coordinators' logs and at the database.",
    )


def _decoded(handler: Handler, payload: bytes) -> Any:
    try:
        return payload if handler.request_deserializer is None else handler.request_deserializer(payload)
    except DecodeError:
        raise fields.malformed("The relayed request cannot be read.") from None


def _unknown(method: str) -> StateError:
    return StateError(
        f"This process does not know the call {method[:200]!r}.",
        reason=ErrorReason.WRONG_STATE,
        next_step="Run the same release in all processes.",
    )
