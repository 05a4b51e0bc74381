"""A real server that speaks S3 on loopback: moto's, in a process of its own; each test takes a bucket of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import pytest

from coordinator.store.blobs.objects import Bucket

START_TIMEOUT_S = 60


@dataclass
class ObjectServer:
    """Where it listens; what it holds goes with its process."""

    endpoint: str
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_bucket(self, prefix: str = "") -> Bucket:
        name = f"ravan-{next(self.numbers)}"
        self.request("PUT", name)
        return Bucket(
            name=name,
            prefix=prefix,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",  # noqa: S106 - of a server that lives as long as the tests
        )

    def request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """Speak to the server past the code that is tested."""
        # Who asks is of no interest to this server, as long as it is somebody.
        somebody = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        headers = {"Authorization": somebody}
        request = urllib.request.Request(f"{self.endpoint}/{path}", content, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            body: bytes = answer.read()
        return body


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Run a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = ObjectServer(f"http://127.0.0.1:{port}", process)
        _await_answer(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _await_answer(server: ObjectServer) -> None:
    for _ in range(START_TIMEOUT_S * 10):
        assert server.process.poll() is None, "the object server ended at once: are moto[s3], flask and flask-cors in?"
        with suppress(OSError):
            server.request("GET", "moto-api/")
            return
        time.sleep(0.1)
    pytest.fail("the object server does not answer")


@pytest.fixture(scope="session")
def objects() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server
