"""The small HTTP server for people and Prometheus: /metrics, /healthz, /readyz and /status.

It only reads; whom it shows what is its door's to say. The Host header must be a name of this coordinator or an IP
address: a page on another site that has its own name resolve to this machine cannot read anything through a browser.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from coordinator.metrics.doors import LOOPBACK_NAMES, Door, OpenDoor, Page, is_address
from coordinator.status.words import Language, choose_language
from ravan.errors import ErrorReason, IdentityError, ResourceError
from ravan.version import VERSION

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

CONNECTIONS: Final = 64
"""At a time; one more is closed, so that whoever floods this port takes nothing from the others."""

_PAGES: Final = {"/metrics": Page.METRICS, "/healthz": Page.HEALTH, "/readyz": Page.HEALTH}
_REQUEST_TIMEOUT_S: Final = 10
_POLL_S: Final = 0.2
"""How soon the standard library's server notices that it shall stop."""
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpContent:
    """Where the answers come from; all are called in threads of the server."""

    registry: CollectorRegistry
    refresh: Callable[[], None]
    """Brings gauges up to date before they are read."""
    is_ready: Callable[[], bool]
    status_page: Callable[[Language, bool], str]
    """HTML without scripts, which refreshes by itself if asked to."""
    stylesheet: str
    """CSS of the status page."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


class HttpServer:
    """Serve from threads of its own, so that a busy event loop still shows its health."""

    def __init__(
        self, content: HttpContent, *, host: str, port: int, names: Collection[str], door: Door | None = None
    ) -> None:
        """Listen at once; port 0 lets the system choose. Without a door connections are plain.

        Raises ResourceError (PORT_IN_USE).
        """
        known = LOOPBACK_NAMES | {name.lower() for name in (*names, host)}
        try:
            self._server = _Server(content, known, door or OpenDoor(host), host, port)
        except OSError as error:
            raise ResourceError(
                f"The coordinator cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}.",
                reason=ErrorReason.PORT_IN_USE,
                next_step=f"End the program that uses port {port}, or set `server.http_port` to another port.",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="http", daemon=True)

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_S
    server_version = f"ravan-coordinator/{VERSION}"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        self._send(self.server.answer(self), with_body=True)

    def do_HEAD(self) -> None:
        self._send(self.server.answer(self), with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Keep scrapes out of the log."""

    def _send(self, answer: _Answer, *, with_body: bool) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS

    def __init__(self, content: HttpContent, names: Collection[str], door: Door, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self._content = content
        self._names = names
        self._door = door
        self._places = threading.BoundedSemaphore(CONNECTIONS)

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - the library's names
        """Tell whether there is room for one more connection, and take it."""
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, and give its room back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make the handshake, if there is one, and answer."""
        try:
            connection = self._door.receive(request)
        except OSError:
            return
        try:
            super().finish_request(connection, client_address)
        except (ConnectionError, ssl.SSLError):
            return  # who asked has gone
        finally:
            if connection is not request:
                self.shutdown_request(connection)

    def answer(self, request: BaseHTTPRequestHandler) -> _Answer:
        """Return what a request gets."""
        if not self._is_meant(request.headers.get("Host")):
            return _text(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This name is not known here. Add it to `server.hosts`, or use the IP address.",
            )
        path, _, query = request.path.partition("?")
        page = _PAGES.get(path, Page.STATUS)
        try:
            self._door.admit(request.connection, page)
        except IdentityError as error:
            return _text(HTTPStatus.FORBIDDEN, f"{error} {error.next_step}")
        if page is Page.METRICS:
            return self._show_metrics(request.headers.get("Accept", ""))
        if page is Page.HEALTH:
            return self._show_health(path)
        return self._show_people(path, query, request.headers.get("Accept-Language", ""))

    def _is_meant(self, header: str | None) -> bool:
        if not header:
            return False
        name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
        name = name.strip("[]").lower().rstrip(".")
        return name in self._names or is_address(name)

    def _show_metrics(self, accept: str) -> _Answer:
        self._content.refresh()
        encode, content_type = choose_encoder(accept)
        return _Answer(HTTPStatus.OK, content_type, encode(self._content.registry))

    def _show_health(self, path: str) -> _Answer:
        if path == "/healthz":
            return _text(HTTPStatus.OK, "alive")
        if self._content.is_ready():
            return _text(HTTPStatus.OK, "ready")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")

    def _show_people(self, path: str, query: str, languages: str) -> _Answer:
        if path not in ("/", "/status", "/status.css"):
            return _text(HTTPStatus.NOT_FOUND, "There are /metrics, /healthz, /readyz and /status.")
        if path == "/status.css":
            return _Answer(HTTPStatus.OK, "text/css; charset=utf-8", self._content.stylesheet.encode())
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        page = self._content.status_page(
            choose_language(asked.get("lang", ""), languages), asked.get("refresh", "") != "0"
        )
        return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())


def _text(status: HTTPStatus, sentence: str) -> _Answer:
    return _Answer(status, _TEXT, f"{sentence}\n".encode())
