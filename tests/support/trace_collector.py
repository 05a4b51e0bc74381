"""An OpenTelemetry collector in the test: takes spans over OTLP (gRPC) and remembers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from ravan.rpc.otlp import METHOD

PATIENCE_S = 120.0
_SERVICE, _NAME = METHOD.strip("/").rsplit("/", 1)


@dataclass(frozen=True)
class SeenSpan:
    """A span as it came over the wire."""

    resource: dict[str, str]
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, str | int]
    failed: bool

    @property
    def who(self) -> str:
        return self.resource["service.instance.id"]


@dataclass
class Collector:
    """What has arrived, and what is answered."""

    port: int = 0
    spans: list[SeenSpan] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """Each request as it was sent."""
    refuse_with: grpc.StatusCode | None = None
    rejected: int = 0
    """How many spans of each batch it says that it does not take."""
    calls: int = 0
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_spans(self, is_enough: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """Wait until what has arrived is enough."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: is_enough(self.spans), PATIENCE_S)
            assert enough, sorted((each.who, each.name) for each in self.spans)
            return list(self.spans)

    def await_calls(self, count: int) -> None:
        """Wait until it was called so often, whatever it answered."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.calls >= count, PATIENCE_S)

    def take(self, raw: bytes, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        with self._arrived:
            self.calls += 1
            self._arrived.notify_all()
            refusal = self.refuse_with
        if refusal is not None:
            context.abort(refusal, "as the test wants it")
        request = ExportTraceServiceRequest.FromString(raw)
        with self._arrived:
            self.raw.append(raw)
            self.spans += _read(request)
            self._arrived.notify_all()
        return ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=self.rejected))


def _read(request: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for group in request.resource_spans:
        resource = {each.key: each.value.string_value for each in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    resource=resource,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    attributes={each.key: _value_of(each) for each in span.attributes},
                    failed=span.status.code == Status.STATUS_CODE_ERROR,
                )


def _value_of(attribute: KeyValue) -> str | int:
    value = attribute.value
    return value.int_value if value.WhichOneof("value") == "int_value" else value.string_value


@contextmanager
def trace_collector(
    port: int = 0, credentials: grpc.ServerCredentials | None = None, host: str = "127.0.0.1"
) -> Iterator[Collector]:
    """Run a collector; port 0 lets the system choose."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    handler: Any = grpc.unary_unary_rpc_method_handler(
        collector.take, response_serializer=ExportTraceServiceResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_NAME: handler}),))
    target = f"{host}:{port}"
    collector.port = (
        server.add_insecure_port(target) if credentials is None else server.add_secure_port(target, credentials)
    )
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait(timeout=10)
