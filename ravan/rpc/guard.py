"""The guard in front of every handler: who may call what and how much, deadlines, errors, how each call ended.

A service that the table does not name is refused, so a new one is closed until somebody opens it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import grpc
from grpc import StatusCode, aio

from ravan.errors import ErrorReason, IdentityError, ProtocolError, RavanError, StateError, TransferError
from ravan.identity.certificates import Caller, Rank, Role
from ravan.rpc.admission import Admission, CallKind, CallLimits
from ravan.rpc.caller import current_caller
from ravan.rpc.ranks import needed_rank
from ravan.rpc.status import DETAIL_KEY, detail_of, shortened, status_of

log = logging.getLogger(__name__)

ENROLMENT_PORT: Final[Mapping[str, Role | None]] = {"ravan.wire.v1.EnrolmentService": None}
"""Who may call which service where there are no client certificates; None means anyone."""

SITE_PORT: Final[Mapping[str, Role | None]] = {
    "ravan.wire.v1.SiteService": Role.AGENT,
    "ravan.wire.v1.TransferService": Role.AGENT,
    "ravan.wire.v1.OperatorService": Role.OPERATOR,
    "ravan.wire.v1.PeerService": Role.COORDINATOR,
}
"""Who may call which service where every client has a certificate."""

HEALTH_SERVICE: Final = "grpc.health.v1.Health"

LARGEST_MESSAGE_BYTES: Final = 4 << 20
"""Longest message that gRPC takes off the line; it ends the call for a longer one, and no handler hears of it."""

CallHook = Callable[[str, StatusCode, float], None]
"""Told once a call: full method name, how it ended, seconds."""

RefusalHook = Callable[[ErrorReason], None]
"""Told why, once a call that ends with an error."""

DenialHook = Callable[[Caller, str], None]
"""Told who called which method, full name, without the right to."""

_Parse = Callable[[bytes], Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "aio.ServicerContext[Any, Any]"


_ANEW: Final[Mapping[Role, str]] = {
    Role.AGENT: "Ask HQ for a new join string: `ravan-coordinator token create --site {name}`.",
    Role.OPERATOR: "Ask who runs the coordinator: `ravan-coordinator operator create {name} --role ROLE --out DIR`.",
    Role.COORDINATOR: "Restart this process of the coordinator; it makes a new certificate.",
}


def _ignore_call(method: str, outcome: StatusCode, seconds: float) -> None:
    """Take note of nothing."""


def _ignore_refusal(reason: ErrorReason) -> None:
    """Take note of nothing."""


def _ignore_denial(caller: Caller, method: str) -> None:
    """Take note of nothing."""


def _never(_: Caller) -> bool:
    """Let no certificate expire but at the handshake."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """What one port's guard lets through."""

    access: Mapping[str, Role | None]
    is_revoked: Callable[[Caller], bool]
    """Asked at each call and at each message of a stream, so that revocation ends what is going on."""
    is_expired: Callable[[Caller], bool] = _never
    limits: CallLimits = field(default_factory=CallLimits)
    message_bytes: int = LARGEST_MESSAGE_BYTES
    """Longest message that is read; at most `LARGEST_MESSAGE_BYTES`."""
    on_call: CallHook = _ignore_call
    on_refusal: RefusalHook = _ignore_refusal
    on_denial: DenialHook = _ignore_denial

    def admit(self, method: str, caller: Caller, role: Role) -> None:
        """Raise IdentityError where a caller may not call a method, full name, that is for this role."""
        try:
            self._judge(method, caller, role)
        except IdentityError as error:
            if error.reason is not ErrorReason.IDENTITY_EXPIRED:  # that one only has to renew it
                self.on_denial(caller, method)
            raise

    def _judge(self, method: str, caller: Caller, role: Role) -> None:
        if self.is_revoked(caller):
            raise IdentityError(
                f"The certificate of {caller.name} was revoked or replaced by a newer one.",
                reason=ErrorReason.IDENTITY_REVOKED,
                next_step=_ANEW[caller.role].format(name=caller.name),
            )
        if self.is_expired(caller):
            raise IdentityError(
                f"The certificate of {caller.name} has expired.",
                reason=ErrorReason.IDENTITY_EXPIRED,
                next_step="Nothing to do: the agent renews it. If it does not, its log says why."
                if caller.role is Role.AGENT
                else _ANEW[caller.role].format(name=caller.name),
            )
        if caller.role is not role:
            raise _refused(f"{caller.role.name.capitalize()} {caller.name} may not call {method}.")
        if role is Role.OPERATOR and not (caller.rank or Rank.VIEWER).includes(needed := needed_rank(method)):
            raise IdentityError(
                f"{caller.name} is {_with_article(caller.rank)} and may not call {method.rpartition('/')[2]}.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step=f"Ask whoever runs the coordinator for a certificate of the role {needed.value}:"
                f" `ravan-coordinator operator create {caller.name} --role {needed.value} --out DIR`.",
            )


class Guard(aio.ServerInterceptor):
    """Refuse, time and translate; the only interceptor of a port."""

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._admission = Admission(policy.limits)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of a call; health is left alone, as load balancers ask for it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or _service_of(method) == HEALTH_SERVICE:
            return handler
        return self.wrap(method, handler)

    def wrap(self, method: str, handler: _Handler) -> _Handler:
        """Return the handler of a method behind this guard."""
        codecs = (self._sized(handler.request_deserializer), handler.response_serializer)
        if handler.response_streaming:
            stream = self._guard_stream(method, handler.stream_stream or handler.unary_stream)
            parcels = (codecs[0], _unpacking(codecs[1]))
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, *parcels)
            return grpc.unary_stream_rpc_method_handler(stream, *parcels)
        if handler.request_streaming:
            upload = self._guard_upload(method, handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(upload, *codecs)
        answer = self._guard_answer(method, handler.unary_unary, CallKind.UNARY)
        return grpc.unary_unary_rpc_method_handler(answer, *codecs)

    def _guard_answer(self, method: str, behaviour: Any, kind: CallKind) -> Any:
        async def guarded(request: Any, context: _Context) -> Any:
            async with self._watch(method, context):
                with self._admit(method, context, kind):
                    return await behaviour(_read(request), context)

        return guarded

    def _guard_upload(self, method: str, behaviour: Any) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: _Context) -> Any:
            async with self._watch(method, context):
                with self._admit(method, context, CallKind.UPLOAD):
                    async with aclosing(self._while_admitted(method, _Messages(requests), context)) as messages:
                        return await behaviour(messages, context)

        return guarded

    def _guard_stream(self, method: str, behaviour: Any) -> Any:
        async def guarded(request: Any, context: _Context) -> AsyncIterator[Any]:
            async with self._watch(method, context):
                with self._admit(method, context, CallKind.STREAM):
                    async with aclosing(behaviour(_read(request), context)) as answers:
                        async for answer in answers:
                            self._check(method, context)
                            yield _Parcel(answer)
                            del answer  # the next one may be hours away

        return guarded

    async def _while_admitted(self, method: str, messages: _Messages, context: _Context) -> AsyncGenerator[Any, None]:
        """Pass messages of a stream on for as long as its caller may make the call."""
        async with aclosing(messages):
            async for message in messages:
                self._check(method, context)
                yield message

    def _sized(self, parse: _Parse | None) -> _Parse:
        """Return a parser that does not look into a message which is too long."""
        longest = self._policy.message_bytes

        def parse_sized(raw: bytes) -> Any:
            if len(raw) > longest:
                return _Oversized(size_bytes=len(raw), longest=longest)
            return raw if parse is None else parse(raw)

        return parse_sized

    def _admit(self, method: str, context: _Context, kind: CallKind) -> AbstractContextManager[None]:
        """Let a call in or raise RavanError; it counts for as long as what is returned."""
        caller = self._check(method, context)
        # A site may watch for as long as it likes; whatever moves something ends.
        if kind is not CallKind.STREAM and context.time_remaining() is None:
            raise ProtocolError(
                f"{method} was called without a deadline.",
                reason=ErrorReason.DEADLINE_MISSING,
                next_step="Set a timeout on the call.",
            )
        return self._admission.enter(caller, kind, time.monotonic())

    def _check(self, method: str, context: _Context) -> Caller | None:
        """Return who calls, None where that is not known; raise IdentityError for one who may not."""
        service = _service_of(method)
        if service not in self._policy.access:
            raise _refused(f"{service} is not served on this port.")
        role = self._policy.access[service]
        if role is None:
            return None
        caller = current_caller(context)
        self._policy.admit(method, caller, role)
        return caller

    def _tell(self, error: RavanError, context: _Context) -> None:
        """Say who exceeds a limit; a flood of calls makes no flood of lines."""
        caller = current_caller(context) if context.auth_context().get("x509_pem_cert") else None
        if caller is not None and self._admission.is_news(caller, time.monotonic()):
            log.warning("%s has calls refused: %s %s", caller.name, error, error.next_step)

    @asynccontextmanager
    async def _watch(self, method: str, context: _Context) -> AsyncIterator[None]:
        """Translate what goes wrong inside and report how it ended."""
        started = time.monotonic()
        outcome = StatusCode.CANCELLED  # what stays when the client leaves a stream
        try:
            yield
            outcome = _set_code(context) or StatusCode.OK
        except RavanError as error:
            outcome = status_of(error.reason)
            if error.reason is ErrorReason.TOO_MANY_CALLS:
                self._tell(error, context)
            self._policy.on_refusal(error.reason)
            await _abort(context, error, plainly=self._is_for_later(method, error))
        except aio.AbortError:
            outcome = _set_code(context) or StatusCode.UNKNOWN
            raise
        except asyncio.CancelledError:
            raise
        except Exception:
            outcome = StatusCode.INTERNAL
            self._policy.on_refusal(ErrorReason.INTERNAL)
            log.exception("%s failed", method)
            await _abort(context, _fault())
        finally:
            self._policy.on_call(method, outcome, time.monotonic() - started)

    def _is_for_later(self, method: str, error: RavanError) -> bool:
        """Tell whether a call shall come again: agents take a word for a refusal, and silence for a broken line."""
        return error.reason is ErrorReason.UNREACHABLE and self._policy.access.get(_service_of(method)) is Role.AGENT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oversized:
    """Stands for a message that nobody looked into."""

    size_bytes: int
    longest: int


def _read(request: Any) -> Any:
    """Return a message, or the stream of messages, as the handler shall have it; raise TOO_LARGE for one too long."""
    if isinstance(request, AsyncIterable):
        return _Messages(request)
    if isinstance(request, _Oversized):
        raise TransferError(
            f"The message has {request.size_bytes} bytes; at most {request.longest} are accepted on this port.",
            reason=ErrorReason.TOO_LARGE,
            next_step="Check that both sides run the same version.",
        )
    return request


class _Messages:
    """A stream of messages, each of them read when its turn comes; nothing is begun that nobody asks for."""

    def __init__(self, raw: AsyncIterable[Any]) -> None:
        self._raw = raw
        self._turns: AsyncIterator[Any] | None = None

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        if self._turns is None:
            self._turns = aiter(self._raw)
        return _read(await anext(self._turns))

    async def aclose(self) -> None:
        """Let go of what gRPC would still receive."""
        close = getattr(self._turns, "aclose", None)
        if close is not None:
            await close()


class _Parcel:
    """An answer of a stream on its way: gRPC keeps what it was given until the next one, which may be hours away.

    The assignment of a thousand sites has over 100 KB, and each of them has a stream.
    """

    def __init__(self, content: Any) -> None:
        self._content = content

    def take(self) -> Any:
        """Return what is inside and keep nothing."""
        content, self._content = self._content, None
        return content


def _unpacking(serialise: Callable[[Any], bytes] | None) -> Callable[[_Parcel], bytes]:
    return lambda parcel: parcel.take() if serialise is None else serialise(parcel.take())


async def _abort(context: _Context, error: RavanError, *, plainly: bool = False) -> None:
    metadata = () if plainly else ((DETAIL_KEY, detail_of(error)),)
    await context.abort(status_of(error.reason), shortened(str(error)), metadata)


def _set_code(context: _Context) -> StatusCode | None:
    """Return the status that a handler set by itself; the context holds a bare number or nothing."""
    number = context.code()
    return next((code for code in StatusCode if number in (code, code.value[0]) and code is not StatusCode.OK), None)


def _service_of(method: str) -> str:
    return method.removeprefix("/").partition("/")[0]


def _with_article(rank: Rank | None) -> str:
    word = (rank or Rank.VIEWER).value
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _refused(sentence: str) -> IdentityError:
    return IdentityError(
        sentence,
        reason=ErrorReason.PERMISSION_DENIED,
        next_step="Agents use the identity that they enrolled with, operators the operator certificate.",
    )


def _fault() -> StateError:
    return StateError(
        "The coordinator met a fault of its own.",
        reason=ErrorReason.INTERNAL,
        next_step="Its log has the details at this time.",
    )
