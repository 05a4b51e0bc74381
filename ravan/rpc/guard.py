"""The guard in front of every handler: who may call what, deadlines, errors, and how each call ended.

A service that the table does not name is refused, so a new one is closed until somebody opens it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
from grpc import StatusCode, aio

from ravan.errors import ErrorReason, IdentityError, ProtocolError, RavanError, StateError
from ravan.identity.certificates import Caller, Role
from ravan.rpc.caller import current_caller
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

CallHook = Callable[[str, StatusCode, float], None]
"""Told once a call: full method name, how it ended, seconds."""

RefusalHook = Callable[[ErrorReason], None]
"""Told why, once a call that ends with an error."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "aio.ServicerContext[Any, Any]"


def _ignore_call(method: str, outcome: StatusCode, seconds: float) -> None:
    """Take note of nothing."""


def _ignore_refusal(reason: ErrorReason) -> None:
    """Take note of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """What one port's guard lets through."""

    access: Mapping[str, Role | None]
    is_revoked: Callable[[Caller], bool]
    on_call: CallHook = _ignore_call
    on_refusal: RefusalHook = _ignore_refusal


class Guard(aio.ServerInterceptor):
    """Refuse, time and translate; the only interceptor of a port."""

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy

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
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            stream = self._guard_stream(method, handler.stream_stream or handler.unary_stream)
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, *codecs)
            return grpc.unary_stream_rpc_method_handler(stream, *codecs)
        if handler.request_streaming:
            upload = self._guard_answer(method, handler.stream_unary, needs_deadline=False)
            return grpc.stream_unary_rpc_method_handler(upload, *codecs)
        answer = self._guard_answer(method, handler.unary_unary, needs_deadline=True)
        return grpc.unary_unary_rpc_method_handler(answer, *codecs)

    def _guard_answer(self, method: str, behaviour: Any, *, needs_deadline: bool) -> Any:
        async def guarded(request: Any, context: _Context) -> Any:
            async with self._watch(method, context):
                self._admit(method, context, needs_deadline=needs_deadline)
                return await behaviour(request, context)

        return guarded

    def _guard_stream(self, method: str, behaviour: Any) -> Any:
        async def guarded(request: Any, context: _Context) -> AsyncIterator[Any]:
            async with self._watch(method, context):
                self._admit(method, context, needs_deadline=False)
                async with aclosing(behaviour(request, context)) as answers:
                    async for answer in answers:
                        yield answer

        return guarded

    def _admit(self, method: str, context: _Context, *, needs_deadline: bool) -> None:
        service = _service_of(method)
        if service not in self._policy.access:
            raise _refused(f"{service} is not served on this port.")
        role = self._policy.access[service]
        if role is not None:
            self._admit_caller(method, current_caller(context), role)
        if needs_deadline and context.time_remaining() is None:
            raise ProtocolError(
                f"{method} was called without a deadline.",
                reason=ErrorReason.DEADLINE_MISSING,
                next_step="Set a timeout on the call.",
            )

    def _admit_caller(self, method: str, caller: Caller, role: Role) -> None:
        if self._policy.is_revoked(caller):
            raise IdentityError(
                f"The certificate of {caller.name} was revoked or replaced by a newer one.",
                reason=ErrorReason.IDENTITY_REVOKED,
                next_step=f"Ask HQ for a new join string: `ravan-coordinator token create --site {caller.name}`.",
            )
        if caller.role is not role:
            raise _refused(f"{caller.role.name.capitalize()} {caller.name} may not call {method}.")

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


async def _abort(context: _Context, error: RavanError, *, plainly: bool = False) -> None:
    metadata = () if plainly else ((DETAIL_KEY, detail_of(error)),)
    await context.abort(status_of(error.reason), shortened(str(error)), metadata)


def _set_code(context: _Context) -> StatusCode | None:
    """Return the status that a handler set by itself; the context holds a bare number or nothing."""
    number = context.code()
    return next((code for code in StatusCode if number in (code, code.value[0]) and code is not StatusCode.OK), None)


def _service_of(method: str) -> str:
    return method.removeprefix("/").partition("/")[0]


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
