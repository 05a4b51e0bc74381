"""What a server answers a handshake that asks for its certificate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from coordinator.enrolment.pki import create_pki
from ravan.rpc.tls import ServerShow, live_tls


@pytest.fixture(scope="module")
def shows(tmp_path_factory: pytest.TempPathFactory) -> list[ServerShow]:
    """Return two that differ."""
    made = [create_pki(tmp_path_factory.mktemp("pki") / "pki", ["localhost"], now=time.time()) for _ in range(2)]
    return [ServerShow(key=each.server_key, certificate=each.server_certificate) for each in made]


class Asked:
    """Credentials whose questions the test asks in gRPC's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, show: Callable[[], ServerShow]) -> None:
        self.first: Any = None
        self.ask: Callable[[], Any] = lambda: None

        def take(first: Any, fetch: Callable[[], Any], *, require_client_authentication: bool) -> None:
            self.first, self.ask = first, fetch

        monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", take)
        live_tls(show)


def test_nothing_is_answered_until_there_is_something_new(
    monkeypatch: pytest.MonkeyPatch, shows: list[ServerShow]
) -> None:
    now = [shows[0]]
    asked = Asked(monkeypatch, lambda: now[0])
    assert isinstance(asked.first, grpc.ServerCertificateConfiguration)
    assert [asked.ask() for _ in range(3)] == [None] * 3
    now[0] = shows[1]
    assert isinstance(asked.ask(), grpc.ServerCertificateConfiguration)
    assert [asked.ask() for _ in range(3)] == [None] * 3
    now[0] = shows[0]
    assert isinstance(asked.ask(), grpc.ServerCertificateConfiguration)


def test_something_new_waits_for_handshakes_that_have_just_asked(
    monkeypatch: pytest.MonkeyPatch, shows: list[ServerShow]
) -> None:
    now, order = [shows[0]], []
    asked = Asked(monkeypatch, lambda: now[0])
    waiting, begun = threading.Event(), threading.Event()

    def wait(seconds: float) -> None:
        order.append("waits")
        assert seconds > 0
        waiting.set()
        assert begun.wait(30)

    monkeypatch.setattr("ravan.rpc.tls.time.sleep", wait)
    now[0] = shows[1]
    answering = threading.Thread(target=lambda: order.append("answers" if asked.ask() is not None else "nothing"))
    answering.start()
    assert waiting.wait(30)
    order.append("another handshake begins")
    begun.set()
    answering.join()
    assert order == ["waits", "another handshake begins", "answers"]
