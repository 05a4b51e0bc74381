"""The HTTP port, asked over real sockets."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coordinator.metrics.catalog import Catalog
from coordinator.metrics.http import HttpContent, HttpServer
from ravan.errors import ErrorReason, ResourceError


class Source:
    """Answers of a coordinator that the test steers."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.ready = False
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def content(self) -> HttpContent:
        return HttpContent(
            registry=self.catalog.registry,
            refresh=self.refresh,
            is_ready=lambda: self.ready,
            status_page=lambda language, refreshes: f"{language} {refreshes}",
            stylesheet="p {}",
        )


@contextmanager
def serving(source: Source, host: str = "127.0.0.1", names: tuple[str, ...] = ("hq.example",)) -> Iterator[HttpServer]:
    server = HttpServer(source.content(), host=host, port=0, names=names)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: HttpServer, path: str, host: str | None = None, method: str = "GET", languages: str = ""
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        named = {} if host is None else {"Host": host}
        connection.request(method, path, headers={**named, "Accept-Language": languages})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_metrics_are_refreshed_and_shown() -> None:
    source = Source()
    source.catalog.masked_bytes.inc(1234)
    with serving(source) as server:
        status, body, headers = ask(server, "/metrics")
    assert status == 200
    assert "ravan_masked_bytes_total 1234.0" in body
    assert headers["Content-Type"].startswith("text/plain")
    assert source.refreshed == 1


def test_health_and_readiness_differ() -> None:
    source = Source()
    with serving(source) as server:
        assert ask(server, "/healthz")[0] == 200
        assert ask(server, "/readyz")[0] == 503
        source.ready = True
        assert ask(server, "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("hq.example", 200),
        ("HQ.example:9464", 200),
        ("localhost:1", 200),
        ("192.0.2.7:9464", 200),
        ("[::1]:9464", 200),
        ("evil.example", 421),
        ("evil.example:9464", 421),
        ("hq.example.evil.example", 421),
        ("", 421),
    ],
)
def test_host_header_is_checked(host: str, status: int) -> None:
    with serving(Source()) as server:
        assert ask(server, "/status", host=host)[0] == status
        assert ask(server, "/metrics", host=host)[0] == status


def test_people_get_a_page_that_may_run_nothing() -> None:
    with serving(Source()) as server:
        status, body, headers = ask(server, "/status")
        style = ask(server, "/status.css")
    assert (status, body) == (200, "en True")
    assert (style[1], style[2]["Content-Type"]) == ("p {}", "text/css; charset=utf-8")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "script" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "accepted", "page"),
    [
        ("/status?lang=ja", "en", "ja True"),
        ("/status?lang=ja&refresh=0", "en", "ja False"),
        ("/status?refresh=0", "ja-JP, en;q=0.5", "ja False"),
        ("/", "fr;q=1, en;q=0.4, ja;q=0.8", "ja True"),
        ("/?lang=%00&lang=xx&refresh=%F0", "de", "en True"),
    ],
)
def test_the_page_comes_in_the_language_that_was_asked_for(path: str, accepted: str, page: str) -> None:
    with serving(Source()) as server:
        assert ask(server, path, languages=accepted)[1] == page


def test_beyond_loopback_only_metrics_and_health() -> None:
    source = Source()
    source.ready = True
    with serving(source, host="0.0.0.0") as server:  # noqa: S104 - that is the case under test
        assert ask(server, "/metrics")[0] == 200
        assert ask(server, "/healthz")[0] == 200
        assert ask(server, "/readyz")[0] == 200
        assert ask(server, "/status")[0] == 403
        assert ask(server, "/")[0] == 403


def test_head_unknown_path_and_other_methods() -> None:
    with serving(Source()) as server:
        assert ask(server, "/healthz", method="HEAD")[:2] == (200, "")
        assert ask(server, "/secret")[0] == 404
        assert ask(server, "/metrics", method="POST")[0] == 501


def test_port_in_use_is_a_sentence_with_the_key() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError) as caught:
            HttpServer(Source().content(), host="127.0.0.1", port=port, names=())
    assert caught.value.reason is ErrorReason.PORT_IN_USE
    assert str(port) in str(caught.value)
    assert "server.http_port" in caught.value.next_step
