"""The small HTTP server for people and Prometheus: /metrics, /healthz, /readyz and, on loopback, /status.

It only reads. The Host header must be a name of this coordinator or an IP address: a page on another
site that has its own name resolve to this machine cannot read anything through a browser.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from coordinator.status.words import Language, choose_language
from ravan.errors import ErrorReason, ResourceError
from ravan.version import VERSION

LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

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

    def __init__(self, content: HttpContent, *, host: str, port: int, names: Collection[str]) -> None:
        """Listen at once; port 0 lets the system choose. Raises ResourceError (PORT_IN_USE)."""
        try:
            self._server = _Server(content, _Visitors(host, names), host, port)
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


class _Visitors:
    """Tell which Host headers are accepted, and whether more than metrics and health may be shown."""

    def __init__(self, host: str, names: Collection[str]) -> None:
        self._names = LOOPBACK_NAMES | {name.lower() for name in names} | {host.lower()}
        self.is_local = host.lower() in LOOPBACK_NAMES or _is_loopback(host)

    def accept(self, header: str | None) -> bool:
        if not header:
            return False
        name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
        name = name.strip("[]").lower().rstrip(".")
        return name in self._names or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).is_loopback


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

    def __init__(self, content: HttpContent, visitors: _Visitors, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self._content = content
        self._visitors = visitors

    def answer(self, request: BaseHTTPRequestHandler) -> _Answer:
        """Return what a request gets."""
        if not self._visitors.accept(request.headers.get("Host")):
            return _text(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This name is not known here. Add it to `server.hosts`, or use the IP address.",
            )
        path, _, query = request.path.partition("?")
        if path == "/metrics":
            return self._show_metrics(request.headers.get("Accept", ""))
        if path == "/healthz":
            return _text(HTTPStatus.OK, "alive")
        if path == "/readyz":
            ready = self._content.is_ready()
            return _text(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, "ready" if ready else "not ready")
        return self._show_people(path, query, request.headers.get("Accept-Language", ""))

    def _show_metrics(self, accept: str) -> _Answer:
        self._content.refresh()
        encode, content_type = choose_encoder(accept)
        return _Answer(HTTPStatus.OK, content_type, encode(self._content.registry))

    def _show_people(self, path: str, query: str, languages: str) -> _Answer:
        if path not in ("/", "/status", "/status.css"):
            return _text(HTTPStatus.NOT_FOUND, "There are /metrics, /healthz, /readyz and /status.")
        if not self._visitors.is_local:
            return _text(
                HTTPStatus.FORBIDDEN,
                "Beyond loopback only metrics and health are shown. For /status set `server.http_listen` to 127.0.0.1.",
            )
        if path == "/status.css":
            return _Answer(HTTPStatus.OK, "text/css; charset=utf-8", self._content.stylesheet.encode())
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        page = self._content.status_page(
            choose_language(asked.get("lang", ""), languages), asked.get("refresh", "") != "0"
        )
        return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())


def _text(status: HTTPStatus, sentence: str) -> _Answer:
    return _Answer(status, _TEXT, f"{sentence}\n".encode())
