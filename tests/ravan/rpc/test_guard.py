"""What the guard does around a handler, over real connections: deadlines, errors, streams, the call hook."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio

from ravan.errors import ErrorReason, ProtocolError, RavanError, TransferError
from ravan.identity.certificates import Caller
from ravan.rpc import server as rpc_server
from ravan.rpc.admission import CallLimits
from ravan.rpc.blob_stream import reason_of
from ravan.rpc.guard import LARGEST_MESSAGE_BYTES, GuardPolicy
from ravan.rpc.server import build_server
from ravan.rpc.status import error_from_rpc

SERVICE = "test.Echo"
LIMITS = CallLimits()
Calls = list[tuple[str, StatusCode, float]]


def nobody(caller: Caller) -> bool:
    return False


class Note:
    """An answer that can be watched."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class Handlers:
    """What the calls below run into."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.sent: weakref.ref[Note] | None = None

    async def answer(self, request: bytes, context: Any) -> bytes:
        if request == b"refuse":
            raise TransferError("The chunk is corrupt.", reason=ErrorReason.CHUNK_CORRUPT, next_step="Send it again.")
        if request == b"fault":
            raise ZeroDivisionError("password=hunter2")
        if request == b"abort":
            await context.abort(StatusCode.OUT_OF_RANGE, "by hand")
        return request.upper()

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            if request == b"refuse":
                raise ProtocolError("Out of turn.", reason=ErrorReason.PROTOCOL_VIOLATION)
            if request == b"wait":
                await asyncio.Event().wait()
            yield b"two"
        finally:
            self.closed.set()

    async def note(self, request: bytes, context: Any) -> AsyncIterator[Note]:
        answer = Note(request)
        self.sent = weakref.ref(answer)
        yield answer
        del answer
        await asyncio.Event().wait()

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([part async for part in requests])

    async def relay(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for part in requests:
            yield part.upper()


@asynccontextmanager
async def echo(
    handlers: Handlers, calls: Calls, *, served: str = SERVICE, limits: CallLimits = LIMITS, message_bytes: int = 1000
) -> AsyncIterator[aio.Channel]:
    def note(method: str, outcome: StatusCode, seconds: float) -> None:
        calls.append((method, outcome, seconds))

    policy = GuardPolicy(
        access={SERVICE: None}, is_revoked=nobody, limits=limits, message_bytes=message_bytes, on_call=note
    )
    server = build_server(policy)
    methods: dict[str, Any] = {
        "Answer": grpc.unary_unary_rpc_method_handler(handlers.answer),
        "Stream": grpc.unary_stream_rpc_method_handler(handlers.stream),
        "Note": grpc.unary_stream_rpc_method_handler(
            handlers.note, response_serializer=lambda answer: bytes(answer.content)
        ),
        "Collect": grpc.stream_unary_rpc_method_handler(handlers.collect),
        "Relay": grpc.stream_stream_rpc_method_handler(handlers.relay),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(served, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(5)


async def answer(channel: aio.Channel, request: bytes, limit_s: float | None = 20.0) -> bytes:
    call: Any = channel.unary_unary(f"/{SERVICE}/Answer")
    result: bytes = await call(request, timeout=limit_s)
    return result


async def refusal(channel: aio.Channel, request: bytes, limit_s: float | None = 20.0) -> RavanError:
    with pytest.raises(aio.AioRpcError) as caught:
        await answer(channel, request, limit_s)
    return error_from_rpc(caught.value, address="hq:1", authority="CA")


async def parts(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


async def test_a_stream_keeps_no_answer_that_was_sent() -> None:
    handlers = Handlers()
    async with echo(handlers, []) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE}/Note")
        stream = call(b"large")
        assert await stream.read() == b"large"
        assert handlers.sent is not None
        async with asyncio.timeout(20):
            while handlers.sent() is not None:  # noqa: ASYNC110 - nothing tells that an object is gone
                await asyncio.sleep(0.01)
        stream.cancel()


async def test_all_four_kinds_of_calls_pass() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        assert await answer(channel, b"abc") == b"ABC"
        stream: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        assert [part async for part in stream(b"go")] == [b"one", b"two"]
        collect: Any = channel.stream_unary(f"/{SERVICE}/Collect")
        assert await collect(parts(b"a", b"b"), timeout=20) == b"ab"
        relay: Any = channel.stream_stream(f"/{SERVICE}/Relay")
        assert [part async for part in relay(parts(b"a", b"b"))] == [b"A", b"B"]
    assert [(method, outcome) for method, outcome, _ in calls] == [
        (f"/{SERVICE}/{name}", StatusCode.OK) for name in ("Answer", "Stream", "Collect", "Relay")
    ]
    assert all(seconds >= 0 for _, _, seconds in calls)


async def test_an_error_arrives_with_reason_and_next_step() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        error = await refusal(channel, b"refuse")
    assert isinstance(error, TransferError)
    assert (str(error), error.reason) == ("The chunk is corrupt.", ErrorReason.CHUNK_CORRUPT)
    assert error.next_step == "Send it again."
    assert [outcome for _, outcome, _ in calls] == [StatusCode.DATA_LOSS]


async def test_a_fault_tells_the_log_and_not_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        error = await refusal(channel, b"fault")
    assert error.reason is ErrorReason.INTERNAL
    assert "hunter2" not in str(error) + error.next_step
    assert "ZeroDivisionError" in caplog.text
    assert [outcome for _, outcome, _ in calls] == [StatusCode.INTERNAL]


async def test_a_handlers_own_abort_is_left_alone() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await answer(channel, b"abort")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.OUT_OF_RANGE, "by hand")
    assert [outcome for _, outcome, _ in calls] == [StatusCode.OUT_OF_RANGE]


async def test_an_error_in_a_stream_arrives_after_what_was_sent() -> None:
    calls: Calls = []
    handlers = Handlers()
    received: list[bytes] = []
    async with echo(handlers, calls) as channel:
        stream: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        call = stream(b"refuse")
        received.append(await call.read())
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    error = error_from_rpc(caught.value, address="hq:1", authority="CA")
    assert (received, error.reason) == ([b"one"], ErrorReason.PROTOCOL_VIOLATION)
    assert handlers.closed.is_set()


async def test_a_stream_ends_at_once_when_the_client_leaves() -> None:
    calls: Calls = []
    handlers = Handlers()
    async with echo(handlers, calls) as channel:
        stream: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        call = stream(b"wait")
        assert await call.read() == b"one"
        call.cancel()
        await asyncio.wait_for(handlers.closed.wait(), 20)
    assert [outcome for _, outcome, _ in calls] == [StatusCode.CANCELLED]


async def test_a_unary_call_needs_a_deadline() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        error = await refusal(channel, b"abc", limit_s=None)
    assert error.reason is ErrorReason.DEADLINE_MISSING


async def test_a_service_that_nobody_opened_is_closed() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls, served="test.New") as channel:
        call: Any = channel.unary_unary("/test.New/Answer")
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"abc", timeout=20)
    assert caught.value.code() is StatusCode.PERMISSION_DENIED


async def test_an_unknown_method_is_unimplemented() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls) as channel:
        call: Callable[..., Any] = channel.unary_unary(f"/{SERVICE}/Nothing")
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"abc", timeout=20)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_an_upload_needs_a_deadline() -> None:
    async with echo(Handlers(), []) as channel:
        collect: Any = channel.stream_unary(f"/{SERVICE}/Collect")
        with pytest.raises(aio.AioRpcError) as caught:
            await collect(parts(b"a"))
    assert error_from_rpc(caught.value, address="hq:1", authority="CA").reason is ErrorReason.DEADLINE_MISSING


async def test_a_message_that_is_too_long_is_refused_unread_in_calls_and_in_streams() -> None:
    calls: Calls = []
    async with echo(Handlers(), calls, message_bytes=10) as channel:
        assert await answer(channel, b"x" * 10) == b"X" * 10
        error = await refusal(channel, b"x" * 11)
        assert error.reason is ErrorReason.TOO_LARGE
        assert "11 bytes; at most 10" in str(error)
        assert error.next_step
        collect: Any = channel.stream_unary(f"/{SERVICE}/Collect")
        with pytest.raises(aio.AioRpcError) as caught:
            await collect(parts(b"a", b"x" * 11, b"b"), timeout=20)
        assert error_from_rpc(caught.value, address="hq:1", authority="CA").reason is ErrorReason.TOO_LARGE
        # What gRPC itself does not take off the line reads the same for the caller.
        assert (await refusal(channel, b"x" * (LARGEST_MESSAGE_BYTES + 1))).reason is ErrorReason.TOO_LARGE
    refused = [outcome for _, outcome, _ in calls if outcome is StatusCode.RESOURCE_EXHAUSTED]
    assert len(refused) == 2


async def test_calls_beyond_the_ports_limit_are_refused_with_a_sentence_and_those_in_progress_go_on() -> None:
    limits = CallLimits(calls=3, streams=2)
    async with echo(Handlers(), [], limits=limits) as channel:
        stream: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        held = [stream(b"wait") for _ in range(2)]
        assert [await each.read() for each in held] == [b"one", b"one"]
        with pytest.raises(aio.AioRpcError) as caught:
            await stream(b"go").read()
        error = error_from_rpc(caught.value, address="hq:1", authority="CA")
        assert error.reason is ErrorReason.TOO_MANY_CALLS
        assert "limits.streams" in error.next_step
        assert [await answer(channel, b"abc") for _ in range(10)] == [b"ABC"] * 10
        assert not any(each.done() for each in held)
        for each in held:
            each.cancel()


async def test_a_flood_is_turned_away_at_the_cap_and_calls_in_progress_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "BEING_REFUSED", 0)
    calls: Calls = []
    async with echo(Handlers(), calls, limits=CallLimits(calls=2)) as channel:
        stream: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        held = [stream(b"wait") for _ in range(2)]
        assert [await each.read() for each in held] == [b"one", b"one"]
        for _ in range(50):
            with pytest.raises(aio.AioRpcError) as caught:
                await answer(channel, b"abc")
            assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
            error = error_from_rpc(caught.value, address="hq:1", authority="CA")
            assert error.reason is reason_of(caught.value) is ErrorReason.TOO_MANY_CALLS
        assert not any(each.done() for each in held)
        # What is turned away never reaches the guard, and is not kept.
        assert calls == []
        held[0].cancel()
        async with asyncio.timeout(20):
            while await answered(channel) is None:
                pass


async def answered(channel: aio.Channel) -> bytes | None:
    """The answer, or None at the cap."""
    try:
        return await answer(channel, b"abc")
    except aio.AioRpcError as error:
        if error.code() is not StatusCode.RESOURCE_EXHAUSTED:
            raise
        return None
