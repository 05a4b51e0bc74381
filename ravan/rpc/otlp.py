"""Send spans to an OpenTelemetry collector (OTLP over gRPC), beside everything else and never in its way.

The messages come from the package `opentelemetry-proto`, which is loaded where tracing is on and nowhere else.
Spans wait in a queue of fixed size: while the collector is away the oldest go, which is counted and said once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc import aio

from ravan.errors import ConfigError, ErrorReason
from ravan.rpc.addresses import target_of
from ravan.tracing.settings import TracingTable
from ravan.tracing.spans import Span
from ravan.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

log = structlog.stdlib.get_logger(__name__)

METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

QUEUE_SPANS: Final = 4096
BATCH_SPANS: Final = 512
GATHER_S: Final = 1.0
"""How long the first span of a batch waits for others."""
CALL_S: Final = 5.0
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0
"""Between attempts while the collector is away."""
FAREWELL_S: Final = 1.0
"""Longest that the end of the process waits for the last batch."""

PASSING: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Failures after which the same spans are sent again, as OTLP has it; after any other they are dropped."""

_CHANNEL_OPTIONS: Final = (
    # The environment may name a proxy for other programs; spans go to the configured address or nowhere.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_reconnect_backoff_ms", 30_000),
)


class TraceExporter:
    """A `SpanSink` of one event loop, from which alone it may be called."""

    def __init__(
        self, settings: TracingTable, resource: Mapping[str, str], on_lost: Callable[[int], object] = lambda _: None
    ) -> None:
        """Take what all spans have in common; `on_lost` hears how many no collector took. Raises ConfigError."""
        self._form = _Form(resource)
        self._settings = settings
        self._on_lost = on_lost
        self._credentials = _credentials(settings) if settings.encrypted else None
        self._waiting: deque[Span] = deque()
        self._arrived = asyncio.Event()
        self._turn = asyncio.Lock()
        self._silent = False
        """Whether the last attempt failed."""
        self._channel: aio.Channel | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        target = target_of(*self._settings.address)
        self._channel = (
            aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
            if self._credentials is None
            else aio.secure_channel(target, self._credentials, options=_CHANNEL_OPTIONS)
        )
        self._task = asyncio.create_task(self._run(self._channel), name="traces")

    async def stop(self) -> None:
        """Send what is left unless the collector is away, and close."""
        if self._channel is None or self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                async with self._turn:  # a batch that is on its way arrives once
                    self._task.cancel()
                if self._waiting and not self._silent:
                    await self._send(self._channel)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    def emit(self, span: Span) -> None:
        """Queue a span; the oldest makes room when there is none."""
        if len(self._waiting) == QUEUE_SPANS:
            self._waiting.popleft()
            self._on_lost(1)
        self._waiting.append(span)
        self._arrived.set()

    async def _run(self, channel: aio.Channel) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_S)
            await self._send(channel)
            if self._silent:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
            if not self._waiting:
                self._arrived.clear()

    async def _send(self, channel: aio.Channel) -> None:
        """Send one batch; what cannot be sent now waits for the next time."""
        async with self._turn:
            await self._send_batch(channel)

    async def _send_batch(self, channel: aio.Channel) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_SPANS, len(self._waiting)))]
        call = channel.unary_unary(
            METHOD, request_serializer=_serialise, response_deserializer=self._form.read_rejected
        )
        try:
            rejected = await call(self._form.write(batch), timeout=CALL_S)
        except aio.AioRpcError as error:
            passing = error.code() in PASSING
            self._say_away(error.code(), passing=passing)
            if passing:
                self._put_back(batch)
            else:
                self._on_lost(len(batch))
        except asyncio.CancelledError:
            self._put_back(batch)
            raise
        else:
            self._say_there()
            if rejected:
                self._on_lost(rejected)

    def _put_back(self, batch: Sequence[Span]) -> None:
        room = QUEUE_SPANS - len(self._waiting)
        kept = batch[-room:] if room else ()
        self._waiting.extendleft(reversed(kept))
        if len(kept) < len(batch):
            self._on_lost(len(batch) - len(kept))

    def _say_away(self, code: grpc.StatusCode, *, passing: bool) -> None:
        if not self._silent:
            next_step = (
                "Nothing else is held up. They are kept for a while and sent when it answers."
                if passing
                else "Nothing else is held up. See that `tracing.endpoint` is an OTLP receiver over gRPC."
            )
            log.warning(
                "the trace collector takes no spans",
                collector=self._settings.endpoint,
                why=code.name.lower(),
                next_step=next_step,
            )
        self._silent = True

    def _say_there(self) -> None:
        if self._silent:
            log.info("the trace collector takes spans again", collector=self._settings.endpoint)
        self._silent = False


class _Form:
    """How spans are written for OTLP."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        try:
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415 - see the module's docs
            from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: PLC0415 - see the module's docs
        except ImportError as error:
            raise ConfigError(
                "`tracing.endpoint` is set, but the package that traces need is not installed.",
                reason=ErrorReason.CONFIG_INVALID,
                next_step="Install it with `pip install 'ravan[tracing]'`, or take the endpoint out.",
            ) from error
        self._service, self._trace = trace_service_pb2, trace_pb2
        self._resource = dict(resource)

    def write(self, spans: Sequence[Span]) -> ExportTraceServiceRequest:
        request = self._service.ExportTraceServiceRequest()
        group = request.resource_spans.add()
        for name, value in self._resource.items():
            group.resource.attributes.add(key=name).value.string_value = value
        scope = group.scope_spans.add()
        scope.scope.name, scope.scope.version = "ravan", VERSION
        scope.spans.extend(map(self._write_span, spans))
        return request

    def _write_span(self, span: Span) -> WireSpan:
        wire = self._trace.Span(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_id,
            name=span.name,
            kind=self._trace.Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=_nanoseconds(span.began_at),
            end_time_unix_nano=_nanoseconds(span.ended_at),
        )
        if span.failed:
            wire.status.code = self._trace.Status.STATUS_CODE_ERROR
        for name, value in span.attributes.items():
            attribute = wire.attributes.add(key=name.value)
            if isinstance(value, int):
                attribute.value.int_value = value
            else:
                attribute.value.string_value = value
        return wire

    def read_rejected(self, answer: bytes) -> int:
        """Return how many spans of a batch the collector did not take."""
        response = self._service.ExportTraceServiceResponse.FromString(answer)
        return int(response.partial_success.rejected_spans)


def open_exporter(
    settings: TracingTable,
    service: str,
    instance: str,
    on_lost: Callable[[int], object] = lambda _: None,
) -> TraceExporter | None:
    """Return where spans go to, None where tracing is off; raise ConfigError where it cannot work."""
    if not settings.endpoint:
        return None
    resource = {"service.name": service, "service.version": VERSION, "service.instance.id": instance}
    return TraceExporter(settings, resource, on_lost)


def check_tracing(settings: TracingTable) -> None:
    """Raise ConfigError where tracing is on and cannot work."""
    if settings.endpoint:
        _Form({})
    if settings.encrypted:
        _credentials(settings)


def _credentials(settings: TracingTable) -> grpc.ChannelCredentials:
    if not settings.ca_file:
        return grpc.ssl_channel_credentials()
    try:
        return grpc.ssl_channel_credentials(root_certificates=Path(settings.ca_file).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"`tracing.ca_file` {settings.ca_file} cannot be read: {(error.strerror or str(error)).lower()}.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Correct the path or its permissions.",
        ) from error


def _nanoseconds(at: float) -> int:
    # A PC whose clock was never set is no reason to send nothing.
    return max(0, round(at * 1e6) * 1000)


def _serialise(request: ExportTraceServiceRequest) -> bytes:
    return request.SerializeToString()
