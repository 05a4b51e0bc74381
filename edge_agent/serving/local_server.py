"""An HTTP server for other programs on this PC, and for nobody else: it listens on loopback alone.

A web page that is open on the PC can reach loopback as well. Its name in the Host header is refused, and it cannot send
JSON to another origin without asking first, which is not answered.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

import structlog

from ravan.errors import DataError, ErrorReason, RavanError, ResourceError
from ravan.version import VERSION

log = structlog.stdlib.get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"
MOST_BYTES: Final = 16 << 20
"""Of a request."""

_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_REQUEST_TIMEOUT_S: Final = 30


class Service(Protocol):
    """Whoever knows the answers; called from several threads."""

    def describe(self) -> dict[str, Any]:
        """Return what is known of the model."""
        ...

    def predict(self, body: object) -> dict[str, Any]:
        """Return the predictions for a request's JSON; raise RavanError for one that asks nothing."""
        ...


def build_local_server(service: Service, port: int) -> ThreadingHTTPServer:
    """Listen on a port of loopback, 0 for any; raise ResourceError PORT_IN_USE. `serve_forever` answers."""
    try:
        return _Server(service, port)
    except OSError as error:
        raise ResourceError(
            f"The model cannot be served on {LOOPBACK}:{port}: {(error.strerror or str(error)).lower()}.",
            reason=ErrorReason.PORT_IN_USE,
            next_step=f"End the program that uses port {port}, or choose another one with --port.",
        ) from error


class _Refusal(Exception):  # noqa: N818 - an answer, no failure of ours
    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # On Windows a second server would share the port with the first.
    allow_reuse_address = os.name != "nt"

    def __init__(self, service: Service, port: int) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's signature
        """Say nothing of programs that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a request could not be answered")


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_S
    server_version = f"ravan-agent/{VERSION}"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._read_get)

    def do_POST(self) -> None:
        self._answer(self._read_post)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the log: they are the plant's data."""

    def _answer(self, read: Any) -> None:
        try:
            _check_host(self.headers.get("Host"))
            status, content = HTTPStatus.OK, dict(read())
        except _Refusal as refusal:
            status, content = refusal.status, {"error": str(refusal)}
        except RavanError as error:
            asked_wrongly = isinstance(error, DataError)
            status = HTTPStatus.BAD_REQUEST if asked_wrongly else HTTPStatus.INTERNAL_SERVER_ERROR
            content = {"error": str(error), "next_step": error.next_step}
        except OSError:
            raise  # of the line, over which nothing can be said
        except Exception:  # whatever it is, the caller hears of it, and the next one is answered
            log.exception("a request failed")
            status, content = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "The agent failed; its log has the trace."}
        self._send(status, content)

    def _read_get(self) -> Mapping[str, Any]:
        match self.path.partition("?")[0]:
            case "/healthz":
                return {"status": "alive"}
            case "/model":
                return self.server.service.describe()
            case "/predict":
                raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Send what to predict with POST.")
            case _:
                raise _unknown_path()

    def _read_post(self) -> Mapping[str, Any]:
        if self.path.partition("?")[0] != "/predict":
            raise _unknown_path()
        if self.headers.get_content_type() != "application/json":
            raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json.")
        raw = self.rfile.read(_length(self.headers.get("Content-Length")))
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "The request is no JSON.") from None
        return self.server.service.predict(body)

    def _send(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode() + b"\n"
        # What was not read of a request would be taken for the next one.
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)


def _check_host(header: str | None) -> None:
    name = (header or "").strip().lower()
    if name.rpartition(":")[2].isdecimal() and not name.endswith("]"):
        name = name.rpartition(":")[0]
    if name.strip("[]") not in _NAMES:
        raise _Refusal(HTTPStatus.MISDIRECTED_REQUEST, "Only 127.0.0.1 and localhost are known here.")


def _length(header: str | None) -> int:
    # At most as many digits as are of use: int() of a very long text takes long.
    if header is None or not (header.isascii() and header.isdecimal() and len(header) < 20):
        raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "The request needs a Content-Length.")
    if int(header) > MOST_BYTES:
        raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {MOST_BYTES >> 20} MiB.")
    return int(header)


def _unknown_path() -> _Refusal:
    return _Refusal(HTTPStatus.NOT_FOUND, "There are POST /predict, GET /model and GET /healthz.")
