"""Answers to calls that change something, kept by request id: a call that comes again gets the first answer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from google.protobuf.message import Message

from coordinator.store.base import Store, Transaction
from coordinator.store.records import AnswerRecord
from ravan.clock import Clock
from ravan.codec import fields
from ravan.errors import ErrorReason, StateError
from ravan.identity.statements import sha256, statement

KEPT_S: Final = 30 * 86_400.0
"""How long an answer is remembered: far longer than any program repeats a call."""

_LABEL: Final = b"ravan/v1/operator-call"

Response = TypeVar("Response", bound=Message)


class ChangeRequest(Protocol):
    """A request that may carry an id."""

    request_id: str
    DESCRIPTOR: Any

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802 - protobuf's name
        """Return its bytes."""
        ...


class AnswerBook:
    """Look up what a call was answered, or have it done and write that down.

    A crash between the deed and the entry has a repetition do it again, so that every deed must bear
    being done twice in a row; none may be done again after others.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def once(
        self, request: ChangeRequest, kind: type[Response], deed: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Return the answer to a request; one without an id is done whenever it comes.

        Raises StateError (CONFLICT) for an id that another call has used, and what `deed` raises, which is
        not remembered: what failed may be tried again.
        """
        request_id = fields.text(request.request_id, "request id", empty=True)
        if not request_id:
            return await deed()
        async with self._turns.setdefault(request_id, asyncio.Lock()):
            call_hash = _hash(request)
            known = await self._store.transact("get_answer", lambda transaction: transaction.get_answer(request_id))
            if known is not None:
                return _repeated(known, call_hash, kind)
            answer = await deed()
            await self._enter(request_id, call_hash, answer)
            return answer

    async def _enter(self, request_id: str, call_hash: bytes, answer: Message) -> None:
        now = self._clock.now()
        record = AnswerRecord(
            request_id=request_id, call_hash=call_hash, answer=answer.SerializeToString(), answered_at=now
        )

        def work(transaction: Transaction) -> None:
            transaction.drop_answers(before=now - KEPT_S)
            transaction.put_answer(record)

        await self._store.transact("put_answer", work)


class _Answering(Protocol):
    """A servicer with a book."""

    answers: AnswerBook


_Servicer = TypeVar("_Servicer", bound=_Answering)
_Request = TypeVar("_Request", bound=ChangeRequest)
_Context = TypeVar("_Context")
_Method = Callable[[_Servicer, _Request, _Context], Awaitable[Response]]


def answered_once(
    kind: type[Response],
) -> Callable[[_Method[_Servicer, _Request, _Context, Response]], _Method[_Servicer, _Request, _Context, Response]]:
    """Have a servicer's method done once for each request id; `kind` is its response."""

    def wrap(
        method: _Method[_Servicer, _Request, _Context, Response],
    ) -> _Method[_Servicer, _Request, _Context, Response]:
        @functools.wraps(method)
        async def once(servicer: _Servicer, request: _Request, context: _Context) -> Response:
            return await servicer.answers.once(request, kind, lambda: method(servicer, request, context))

        return once

    return wrap


def _repeated(known: AnswerRecord, call_hash: bytes, kind: type[Response]) -> Response:
    if known.call_hash != call_hash:
        raise StateError(
            f"The request id {known.request_id} belongs to another call.",
            reason=ErrorReason.ALREADY_EXISTS,
            next_step="Make a new random id for each call, and repeat one only with what was sent before.",
        )
    return kind.FromString(known.answer)


def _hash(request: ChangeRequest) -> bytes:
    name = request.DESCRIPTOR.full_name.encode()
    return sha256(statement(_LABEL, name, request.SerializeToString(deterministic=True)))
