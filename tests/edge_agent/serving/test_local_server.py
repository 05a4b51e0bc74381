"""The server on loopback: who is answered, what is refused, and that nothing stops it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from edge_agent.serving.local_server import LOOPBACK, MOST_BYTES, build_local_server
from ravan.errors import DataError, ErrorReason, ModelError, ResourceError

HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Echo:
    """Answer with what was asked."""

    def describe(self) -> dict[str, Any]:
        return {"job": "orders"}

    def predict(self, body: object) -> dict[str, Any]:
        match body:
            case "wrong":
                raise DataError("It asks nothing.", reason=ErrorReason.MALFORMED, next_step="Ask.")
            case "broken":
                raise ModelError("The model is gone.", reason=ErrorReason.MODEL_MISSING)
            case "bug":
                raise ZeroDivisionError
            case _:
                return {"asked": body}


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with build_local_server(Echo(), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = HTTPConnection(LOOPBACK, server.server_address[1], timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if response.headers["Content-Type"] == "application/json" else content


def post(server: ThreadingHTTPServer, body: bytes, **headers: str) -> tuple[int, Any]:
    return ask(server, "POST", "/predict", body, **{"Content_Type": "application/json"} | headers)


def test_predictions_model_and_health(server: ThreadingHTTPServer) -> None:
    assert post(server, b'{"texts": ["a"]}') == (200, {"asked": {"texts": ["a"]}})
    assert ask(server, "GET", "/model") == (200, {"job": "orders"})
    assert ask(server, "GET", "/healthz?x=1") == (200, {"status": "alive"})


def test_it_listens_on_loopback_alone(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.address_family == socket.AF_INET


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "10.0.0.5", "::2"])
def test_a_page_that_calls_itself_by_another_name_is_refused(server: ThreadingHTTPServer, host: str) -> None:
    assert post(server, b"1", Host=host)[0] == 421
    assert ask(server, "GET", "/model", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9467", "LOCALHOST", "[::1]:9467", "[::1]"])
def test_names_of_loopback_are_accepted(server: ThreadingHTTPServer, host: str) -> None:
    assert post(server, b"1", Host=host) == (200, {"asked": 1})


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_page_may_send_without_asking_is_refused(server: ThreadingHTTPServer, kind: str) -> None:
    assert post(server, b"1", Content_Type=kind)[0] == 415
    # To ask, a browser sends OPTIONS.
    assert ask(server, "OPTIONS", "/predict")[0] == 501


def test_sizes_are_limited_and_must_be_told(server: ThreadingHTTPServer) -> None:
    assert post(server, b"1", Content_Length=str(MOST_BYTES + 1))[0] == 413
    for length in ("-1", "many", "9" * 5000, "٣"):
        with socket.create_connection((LOOPBACK, server.server_address[1]), timeout=20) as line:
            line.sendall(f"{HEAD}Content-Length: {length}\r\n\r\n".encode())
            assert line.recv(100).split()[1] in (b"411", b"413")
    with socket.create_connection((LOOPBACK, server.server_address[1]), timeout=20) as line:
        line.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n".encode())
        assert line.recv(100).split()[1] == b"411"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(server: ThreadingHTTPServer, body: bytes) -> None:
    assert post(server, body) == (400, {"error": "The request is no JSON."})


def test_refusals_are_sentences(server: ThreadingHTTPServer) -> None:
    assert post(server, b'"wrong"') == (400, {"error": "It asks nothing.", "next_step": "Ask."})
    assert post(server, b'"broken"')[0] == 500
    assert ask(server, "GET", "/predict")[0] == 405
    assert ask(server, "GET", "/../etc/passwd")[0] == 404
    assert ask(server, "POST", "/model", b"1", Content_Type="application/json")[0] == 404


def test_an_error_of_ours_and_a_caller_that_hangs_up_leave_it_running(server: ThreadingHTTPServer) -> None:
    assert post(server, b'"bug"')[0] == 500
    with socket.create_connection((LOOPBACK, server.server_address[1])) as line:
        line.sendall(f"{HEAD}Content-Length: 10\r\n\r\n1".encode())
    assert post(server, b"2") == (200, {"asked": 2})


def test_a_port_that_is_taken_is_named(server: ThreadingHTTPServer) -> None:
    with pytest.raises(ResourceError, match="cannot be served on 127") as caught:
        build_local_server(Echo(), server.server_address[1])
    assert caught.value.reason is ErrorReason.PORT_IN_USE
