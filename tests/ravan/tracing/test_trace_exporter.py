"""Spans on their way: nothing waits for the collector, and what it does not take is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trace_collector import Collector, trace_collector

from ravan.ids import JobId, RunId
from ravan.manifest.phases import RoundPhase
from ravan.rpc import otlp
from ravan.rpc.otlp import TraceExporter
from ravan.tracing.settings import TracingTable
from ravan.tracing.spans import RoundTrace, Span

RESOURCE = {"service.name": "ravan-agent", "service.instance.id": "plant-a"}
TRACE = RoundTrace(run_id=RunId(bytes(16)), job_id=JobId("job-1"), round_number=1)


def span(at: float = 1_700_000_000.25) -> Span:
    return TRACE.describe_phase(RoundPhase.TRAINING, began_at=at, ended_at=at + 0.5, sites=3)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "GATHER_S", 0.01)
    monkeypatch.setattr(otlp, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with trace_collector() as running:
        yield running


class Sending:
    """An exporter that runs, and how many spans it lost."""

    def __init__(self, endpoint: str, ca_file: str = "") -> None:
        self.lost = 0
        self.exporter = TraceExporter(TracingTable(endpoint=endpoint, ca_file=ca_file), RESOURCE, self._lose)

    def _lose(self, count: int) -> None:
        self.lost += count

    async def __aenter__(self) -> Sending:
        self.exporter.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exporter.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_span_arrives_as_it_is(collector: Collector) -> None:
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span())
        (seen,) = await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)
    assert seen.resource == RESOURCE
    assert (seen.trace_id, seen.span_id) == (TRACE.trace_id.hex(), TRACE.span_id(RoundPhase.TRAINING).hex())
    assert (seen.began_ns, seen.ended_ns) == (1_700_000_000_250_000_000, 1_700_000_000_750_000_000)
    assert seen.attributes == {"ravan.job_id": "job-1", "ravan.round": 1, "ravan.sites": 3}
    assert sending.lost == 0


async def test_a_clock_before_the_epoch_is_sent_as_the_epoch(collector: Collector) -> None:
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span(-5.0))
        (seen,) = await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)
    assert (seen.began_ns, seen.ended_ns) == (0, 0)


async def test_the_end_sends_what_is_left(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "GATHER_S", 3600)
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span())
    assert len(collector.spans) == 1


async def test_a_collector_that_comes_back_gets_what_waited_and_it_is_said_once() -> None:
    port = free_port()
    with structlog.testing.capture_logs() as lines:
        async with Sending(f"http://127.0.0.1:{port}") as sending:
            sending.exporter.emit(span())
            await until(lambda: bool(lines))
            sending.exporter.emit(span())
            await asyncio.sleep(0.2)  # several more attempts
            with trace_collector(port) as collector:
                await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 2)
                await until(lambda: len(lines) == 2)
    assert sending.lost == 0
    assert [line["event"] for line in lines] == [
        "the trace collector takes no spans",
        "the trace collector takes spans again",
    ]


async def test_the_oldest_spans_make_room_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "QUEUE_SPANS", 10)
    port = free_port()
    async with Sending(f"http://127.0.0.1:{port}") as sending:
        for number in range(25):
            sending.exporter.emit(span(float(number)))
        assert sending.lost == 15
        await asyncio.sleep(0.2)  # attempts fail and put back what they took
        for number in range(25, 30):
            sending.exporter.emit(span(float(number)))
        assert sending.lost == 20
        with trace_collector(port) as collector:
            seen = await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 10)
    assert [each.began_ns // 10**9 for each in seen] == list(range(20, 30))


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT])
async def test_what_will_never_be_taken_is_not_sent_again(code: grpc.StatusCode, collector: Collector) -> None:
    collector.refuse_with = code
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span())
        await asyncio.to_thread(collector.await_calls, 1)
        await until(lambda: bool(sending.lost))
        collector.refuse_with = None
        sending.exporter.emit(span(2.0))
        seen = await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)
    assert sending.lost == 1
    assert seen[0].began_ns == 2 * 10**9


async def test_what_a_collector_says_that_it_left_out_is_counted(collector: Collector) -> None:
    collector.rejected = 1
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span())
        await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)
    assert sending.lost == 1


async def test_tls_goes_to_the_collector_of_the_named_authority_alone(tmp_path: Path) -> None:
    key, certificate = self_signed("localhost")
    _, other = self_signed("localhost")
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "other.pem").write_bytes(other)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with trace_collector(credentials=credentials) as collector:
        endpoint = f"https://localhost:{collector.port}"
        with structlog.testing.capture_logs() as lines:
            async with Sending(endpoint, str(tmp_path / "other.pem")) as sending:
                sending.exporter.emit(span())
                await until(lambda: bool(lines))
        assert collector.calls == 0
        async with Sending(endpoint, str(tmp_path / "ca.pem")) as sending:
            sending.exporter.emit(span())
            await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)


async def test_the_environment_sends_nothing_elsewhere(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=line-4")
    async with Sending(collector.endpoint) as sending:
        sending.exporter.emit(span())
        (seen,) = await asyncio.to_thread(collector.await_spans, lambda spans: len(spans) == 1)
    assert seen.resource == RESOURCE


def self_signed(name: str) -> tuple[bytes, bytes]:
    """Return a key and a certificate that is its own authority, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, certificate.public_bytes(pem)
