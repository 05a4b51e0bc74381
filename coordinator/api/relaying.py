"""Passing calls on to the process that leads: the line to it, and the handlers that use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode, aio

from coordinator.api.peer import not_leading
from coordinator.api.switchboard import Handler, Handlers, Switchboard
from coordinator.enrolment.pki import Keys, Pki, issue_peer
from ravan.clock import Clock
from ravan.codec.secagg_messages import header_to_wire
from ravan.errors import StateError
from ravan.identity.certificates import describe_authority
from ravan.ids import SiteId
from ravan.manifest.instructions import RoundRef
from ravan.rpc.channel import open_channel
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolled_client
from ravan.secagg.messages import MaskedHeader
from ravan.wire.v1 import peer_service_pb2 as wire
from ravan.wire.v1.peer_service_pb2_grpc import PeerServiceStub
from ravan.wire.v1.site_service_pb2 import WatchRequest, WatchResponse

WATCH: Final = "/ravan.wire.v1.SiteService/Watch"

LEADERLESS_S: Final = 60.0
"""How long a site's stream stays open while nobody leads."""

_LOOK_EVERY_S: Final = 1.0
_CALL_S: Final = 30.0
"""Time for a call whose caller gave none."""

_GONE: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.CANCELLED})
"""Ends of a call to a leader that is none any more."""

_Context = aio.ServicerContext[Any, Any]


class LeaderLink:
    """The line to the process that leads, as far as it is known."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        """Lead nowhere yet."""
        self.turned = asyncio.Event()
        """Set once another process leads, this one included; replaced by a new one then."""
        self._keys = keys
        self._clock = clock
        self._leader = ("", 0)
        self._trusted = b""
        self._channel: aio.Channel | None = None

    async def turn_to(self, address: str, fence: int) -> None:
        """Call the process at this address from now on, or nobody; calls to another one, or by keys of before, end."""
        pki = self._keys.current()
        if (address, fence, pki.trusted_by_sites) == (*self._leader, self._trusted):
            return
        channel, self._channel, self._leader = self._channel, None, (address, fence)
        self._trusted = pki.trusted_by_sites
        if address:
            host, _, port = address.rpartition(":")
            self._channel = open_channel(host.strip("[]"), int(port), self._credentials(pki))
        turned, self.turned = self.turned, asyncio.Event()
        turned.set()
        if channel is not None:
            await channel.close()

    @property
    def stub(self) -> Any:
        """Return the calls of the leading process; raise StateError (UNREACHABLE) when none is known."""
        if self._channel is None:
            raise not_leading()
        return PeerServiceStub(self._channel)

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        """Have a header checked before its first byte is stored; raise RavanError to refuse the upload."""
        await self._tell("AnnounceUpload", wire.AnnounceUploadRequest, site, round_ref, header)

    async def arrived(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader, path: Path) -> None:  # noqa: ARG002 - it is found by what it is
        """Tell of a whole, verified payload."""
        await self._tell("ReportUpload", wire.ReportUploadRequest, site, round_ref, header)

    def _credentials(self, pki: Pki) -> grpc.ChannelCredentials:
        key, certificate = issue_peer(pki, now=self._clock.now())
        return enrolled_client(key=key, certificate=certificate, ca_certificate=pki.trusted_by_sites)

    async def _tell(self, name: str, kind: Any, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        request = kind(site=site, header=header_to_wire(round_ref, header))
        try:
            with hung_up():
                await getattr(self.stub, name)(request, timeout=_CALL_S)
        except aio.AioRpcError as error:
            authority = describe_authority(self._trusted)
            raise error_from_rpc(error, address=self._leader[0], authority=authority) from error


class Relay:
    """Handlers that pass calls on."""

    def __init__(self, link: LeaderLink, switchboard: Switchboard, standby: Handlers) -> None:
        """Answer calls by `standby`'s handlers where the leader cannot be reached, if there is one."""
        self._link = link
        self._switchboard = switchboard
        self._standby = standby

    def handlers(self, methods: Iterable[MethodDescriptor]) -> dict[str, Handler]:
        """Return handlers for these methods, none of which takes a stream."""
        return {f"/{each.containing_service.full_name}/{each.name}": self._handler(each) for each in methods}

    def _handler(self, described: MethodDescriptor) -> Handler:
        method = f"/{described.containing_service.full_name}/{described.name}"
        if method == WATCH:
            return grpc.unary_stream_rpc_method_handler(self._watch)
        if described.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._streamed(method))
        return grpc.unary_unary_rpc_method_handler(self._answered(method))

    def _answered(self, method: str) -> Any:
        async def relayed(request: bytes, context: _Context) -> bytes:
            message = wire.RelayRequest(method=method, certificate=_certificate_of(context), payload=request)
            try:
                with hung_up():
                    answer = await self._link.stub.Relay(message, timeout=context.time_remaining() or _CALL_S)
            except (aio.AioRpcError, StateError) as error:
                if method not in self._standby or not _is_gone(error):
                    await _pass_on(context, error)
                return await self._answer_by_records(method, request, context)
            return bytes(answer.payload)

        return relayed

    async def _answer_by_records(self, method: str, request: bytes, context: _Context) -> bytes:
        handler: Any = self._standby[method]
        answer = await handler.unary_unary(handler.request_deserializer(request), context)
        return bytes(handler.response_serializer(answer))

    def _streamed(self, method: str) -> Any:
        async def relayed(request: bytes, context: _Context) -> AsyncIterator[bytes]:
            message = wire.RelayStreamRequest(method=method, certificate=_certificate_of(context), payload=request)
            try:
                with hung_up():
                    async for answer in self._link.stub.RelayStream(message, timeout=context.time_remaining()):
                        yield answer.payload
            except aio.AioRpcError as error:
                await _pass_on(context, error)

        return relayed

    async def _watch(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        """Stream a site's instructions from whoever leads, and go on at the next leader where they broke off."""
        asked, greeted = WatchRequest.FromString(request), False
        patience = time.monotonic() + LEADERLESS_S
        while time.monotonic() < patience:
            turned = self._link.turned
            try:
                with hung_up():
                    async for answer in self._instructions(asked, context):
                        patience = time.monotonic() + LEADERLESS_S
                        if answer.HasField("greeting"):
                            if greeted:
                                continue
                            greeted = True
                        else:
                            asked.after_sequence = answer.sequence
                        yield answer.SerializeToString()
                return
            except (aio.AioRpcError, StateError) as error:
                if not _is_gone(error):
                    await _pass_on(context, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(turned.wait(), _LOOK_EVERY_S)
        raise not_leading()

    async def _instructions(self, asked: WatchRequest, context: _Context) -> AsyncIterator[WatchResponse]:
        own: Any = self._switchboard.leading.get(WATCH)
        if own is not None:
            async for answer in own.unary_stream(asked, context):
                yield answer
            return
        message = wire.RelayStreamRequest(
            method=WATCH, certificate=_certificate_of(context), payload=asked.SerializeToString()
        )
        async for part in self._link.stub.RelayStream(message):
            yield WatchResponse.FromString(part.payload)


@contextmanager
def hung_up() -> Iterator[None]:
    """Raise StateError (UNREACHABLE) where the line to a former leader was hung up under a call.

    gRPC cancels what waits for the answer then, as if whoever called had left.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise not_leading() from None


def _certificate_of(context: _Context) -> bytes:
    return next(map(bytes, context.auth_context().get("x509_pem_cert", ())), b"")


def _is_gone(error: aio.AioRpcError | StateError) -> bool:
    return isinstance(error, StateError) or error.code() in _GONE


async def _pass_on(context: _Context, error: aio.AioRpcError | StateError) -> NoReturn:
    """End a call as the leader has ended it; it never returns."""
    if isinstance(error, StateError):
        raise error
    await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
