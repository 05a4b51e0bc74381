"""The HTTP port over mutual TLS, with real sockets and certificates: who sees what, and what nobody can spoil."""

from __future__ import annotations

import select
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from mutual_visitors import Visitor, fetch, holder, nobody, operator
from prometheus_server import prometheus_server

from coordinator.enrolment.ca import create_authority
from coordinator.enrolment.live_keys import LiveKeys
from coordinator.enrolment.operator_book import RevokedOperators
from coordinator.enrolment.operators import revoke_operator
from coordinator.enrolment.pki import SERVER_CERTIFICATE, SERVER_KEY, create_pki, server_pair, write_leaves
from coordinator.enrolment.rollover import introduce, retire, switch
from coordinator.metrics.catalog import Catalog
from coordinator.metrics.http import CONNECTIONS, HttpContent, HttpServer
from coordinator.metrics.mutual import MutualDoor
from ravan.errors import ErrorReason
from ravan.identity.certificates import Caller, Rank, Role, load_certificate
from ravan.identity.keys import new_tls_key, private_pem
from ravan.rpc.guard import GuardPolicy

PEOPLES = ("/", "/status", "/status.css", "/metrics")
PROBES = ("/healthz", "/readyz")
HOSTS = ["localhost"]
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@dataclass
class Port:
    """The port under test, and what it has noted."""

    pki: Path
    server: HttpServer
    now: list[float]
    refused: list[ErrorReason] = field(default_factory=list)
    denied: list[tuple[Caller, str]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.server.port


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    pki = tmp_path / "pki"
    create_pki(pki, HOSTS, now=time.time())
    content = HttpContent(
        registry=Catalog().registry,
        refresh=lambda: None,
        is_ready=lambda: True,
        status_page=lambda language, _: f"the page in {language}",
        stylesheet="p {}",
    )
    refused: list[ErrorReason] = []
    denied: list[tuple[Caller, str]] = []
    now = [time.time()]
    policy = GuardPolicy(
        access={},
        is_revoked=RevokedOperators(pki).include,
        on_refusal=refused.append,
        on_denial=lambda caller, method: denied.append((caller, method)),
    )
    door = MutualDoor(LiveKeys(pki), server_pair(pki, None), policy, lambda: now[0])
    server = HttpServer(content, host="127.0.0.1", port=0, names=HOSTS, door=door)
    server.start()
    yield Port(pki, server, now, refused, denied)
    server.stop()


@pytest.fixture
def mia(port: Port, tmp_path: Path) -> Visitor:
    return operator(port.pki, "mia", Rank.VIEWER, tmp_path / "mia")


def assert_no_connection(visitor: Visitor, port: Port, path: str = "/healthz") -> None:
    # In TLS 1.3 the client is through before the server has judged: it hears so when it reads.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        visitor.ask(port.number, path)


def await_refusals(port: Port, *reasons: ErrorReason) -> None:
    """Wait until these were counted: the visitor hears of a failed handshake before that."""
    end = time.monotonic() + 5
    while port.refused != list(reasons):
        assert time.monotonic() < end, port.refused
        time.sleep(0.01)


@pytest.mark.parametrize("rank", list(Rank))
def test_every_operator_sees_everything(port: Port, tmp_path: Path, rank: Rank) -> None:
    visitor = operator(port.pki, "mia", rank, tmp_path / "mia")
    assert visitor.ask(port.number, "/status") == (200, "the page in en")
    assert visitor.ask(port.number, "/status.css") == (200, "p {}")
    assert "ravan_rounds_total" in visitor.ask(port.number, "/metrics")[1]
    assert [visitor.ask(port.number, path)[0] for path in PROBES] == [200, 200]
    assert (port.refused, port.denied) == ([], [])


def test_without_a_certificate_there_is_only_health(port: Port) -> None:
    assert [nobody(port.pki).ask(port.number, path) for path in PROBES] == [(200, "alive\n"), (200, "ready\n")]
    for path in (*PEOPLES, "/secret"):
        status, text = nobody(port.pki).ask(port.number, path)
        assert status == 403
        assert "ravan-coordinator operator create" in text
    assert set(port.refused) == {ErrorReason.PERMISSION_DENIED}


@pytest.mark.parametrize("role", [Role.AGENT, Role.COORDINATOR])
def test_nobody_elses_certificate_sees_anything_and_each_attempt_is_noted(
    port: Port, tmp_path: Path, role: Role
) -> None:
    visitor = holder(port.pki, LiveKeys(port.pki).current().authority, role, "plant-a", tmp_path / "plant-a")
    for path in (*PEOPLES, *PROBES, "/secret"):
        assert visitor.ask(port.number, path)[0] == 403
    asked = [method for _, method in port.denied]
    assert asked == [
        *("/http/GetStatus",) * 3,
        "/http/GetMetrics",
        *("/http/GetHealth",) * 2,
        "/http/GetStatus",
    ]
    assert {(caller.role, caller.name) for caller, _ in port.denied} == {(role, "plant-a")}
    assert len(port.refused) == len(asked)


def test_a_revoked_viewer_sees_nothing_not_even_over_a_connection_that_stands(port: Port, mia: Visitor) -> None:
    before = mia.connect(port.number)
    assert mia.ask(port.number, "/status")[0] == 200
    revoke_operator(port.pki, "mia", now=time.time())
    for status, text in (fetch(before, "/status"), mia.ask(port.number, "/status"), mia.ask(port.number, "/healthz")):
        assert status == 403
        assert "revoked" in text
    before.close()
    assert [caller.name for caller, _ in port.denied] == ["mia"] * 3
    assert set(port.refused) == {ErrorReason.IDENTITY_REVOKED}


def test_a_book_that_cannot_be_read_lets_no_operator_in(port: Port, mia: Visitor) -> None:
    (port.pki / "operators.json").write_text("{", encoding="utf-8")
    status, text = mia.ask(port.number, "/status")
    assert status == 403
    assert "operators.json cannot be read" in text
    assert nobody(port.pki).ask(port.number, "/healthz")[0] == 200


def test_an_expired_certificate_ends_in_the_handshake(port: Port, tmp_path: Path) -> None:
    past = operator(port.pki, "old", Rank.ADMIN, tmp_path / "old", now=time.time() - 7200)
    assert_no_connection(past, port)
    await_refusals(port, ErrorReason.IDENTITY_EXPIRED)


def test_a_connection_does_not_outlive_its_certificate(port: Port, mia: Visitor) -> None:
    standing = mia.connect(port.number)
    port.now[0] += 7200
    status, text = fetch(standing, "/status")
    standing.close()
    assert (status, port.refused) == (403, [ErrorReason.IDENTITY_EXPIRED])
    assert "operator create mia" in text


def test_a_session_is_not_resumed(port: Port, mia: Visitor) -> None:
    # Its certificate would not be looked at again.
    with (
        socket.create_connection(("127.0.0.1", port.number), timeout=5) as plain,
        mia.context().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(1 << 12)
        assert connection.session is None or not connection.session.has_ticket


def test_another_authoritys_certificate_ends_in_the_handshake(port: Port, tmp_path: Path) -> None:
    foreign = holder(port.pki, create_authority(time.time()), Role.OPERATOR, "mia", tmp_path / "foreign")
    assert_no_connection(foreign, port)
    await_refusals(port, ErrorReason.IDENTITY_MISMATCH)


def test_the_servers_certificate_makes_no_visitor(port: Port) -> None:
    assert_no_connection(
        Visitor(port.pki / "ca.crt", port.pki / SERVER_CERTIFICATE, port.pki / SERVER_KEY), port, "/status"
    )


def test_names_that_are_not_ours_are_refused_as_without_tls(port: Port, mia: Visitor) -> None:
    assert mia.ask(port.number, "/status", host="evil.example")[0] == 421


def test_whoever_speaks_no_tls_is_not_answered_and_disturbs_nobody(port: Port, mia: Visitor) -> None:
    for noise in (b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 99, b""):
        with socket.create_connection(("127.0.0.1", port.number), timeout=5) as plain:
            heard = b""
            with suppress(OSError):  # the port may have hung up already
                plain.sendall(noise)
                plain.shutdown(socket.SHUT_WR)
                heard = plain.recv(1 << 12)
        assert b"HTTP/" not in heard
        assert mia.ask(port.number, "/status")[0] == 200


def test_slow_handshakes_keep_nobody_waiting_and_too_many_are_closed(port: Port, mia: Visitor) -> None:
    with ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port.number), timeout=5))
            for _ in range(CONNECTIONS - 1)
        ]
        assert mia.ask(port.number, "/status")[0] == 200
        # The place of the visit above may be given back a moment after its answer: it is then the first of the two.
        last, one_more = (
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port.number), timeout=5)) for _ in range(2)
        )
        closed, _, _ = select.select([last, one_more], [], [], 5)
        assert closed
        assert all(connection.recv(1) == b"" for connection in closed)
        slow[0].close()
        last.close()
        end = time.monotonic() + 5
        while not is_served(mia, port):
            assert time.monotonic() < end


def is_served(visitor: Visitor, port: Port) -> bool:
    try:
        return visitor.ask(port.number, "/status")[0] == 200
    except OSError:
        return False


def shown(port: Port, visitor: Visitor) -> int:
    connection = visitor.connect(port.number)
    assert isinstance(connection.sock, ssl.SSLSocket)
    certificate = connection.sock.getpeercert(binary_form=True)
    connection.close()
    assert certificate is not None
    return load_certificate(ssl.DER_cert_to_PEM_cert(certificate).encode()).serial_number


def test_a_renewed_server_certificate_is_shown_at_the_next_connection(port: Port, mia: Visitor) -> None:
    before = shown(port, mia)
    write_leaves(port.pki, LiveKeys(port.pki).current().authority, HOSTS, time.time())
    after = load_certificate((port.pki / SERVER_CERTIFICATE).read_bytes()).serial_number
    assert (shown(port, mia), after != before) == (after, True)


def test_in_the_middle_of_a_change_the_certificate_of_before_is_shown(port: Port, mia: Visitor) -> None:
    before = shown(port, mia)
    key = (port.pki / SERVER_KEY).read_bytes()
    for damage in (private_pem(new_tls_key()), b"half a"):
        (port.pki / SERVER_KEY).write_bytes(damage)
        assert shown(port, mia) == before
    (port.pki / SERVER_KEY).write_bytes(key)
    assert mia.ask(port.number, "/status")[0] == 200


def test_an_authority_that_is_retired_lets_nobody_in_any_more(port: Port, mia: Visitor, tmp_path: Path) -> None:
    introduce(port.pki, now=time.time())
    switch(port.pki, HOSTS, now=time.time())
    followed = Visitor(port.pki / "ca.crt", mia.certificate, mia.key)
    assert followed.ask(port.number, "/status")[0] == 200
    retire(port.pki)
    assert_no_connection(followed, port)
    assert operator(port.pki, "mia", Rank.VIEWER, tmp_path / "anew").ask(port.number, "/status")[0] == 200


def test_prometheus_scrapes_with_a_viewers_certificate(port: Port, mia: Visitor, tmp_path: Path) -> None:
    watch = tmp_path / "prometheus"
    watch.mkdir()
    assert mia.certificate is not None
    with prometheus_server(watch, f"localhost:{port.number}", credentials=mia.certificate.parent) as prometheus:
        prometheus.await_value('up{job="ravan"}', 1)
        prometheus.await_value("ravan_masked_bytes_total", 0)
        revoke_operator(port.pki, "mia", now=time.time())
        prometheus.await_value('up{job="ravan"}', 0)


def test_a_browser_can_take_the_certificate_in_as_the_page_on_operations_says(mia: Visitor) -> None:
    assert mia.certificate is not None
    [command] = [line for line in OPERATIONS.read_text(encoding="utf-8").splitlines() if "openssl pkcs12" in line]
    asked_for = (*shlex.split(command), "-passout", "pass:secret")
    subprocess.run(asked_for, cwd=mia.certificate.parent, check=True, capture_output=True)
    packed = (mia.certificate.parent / "operator.p12").read_bytes()
    key, certificate, others = pkcs12.load_key_and_certificates(packed, b"secret")
    assert key is not None
    assert certificate == load_certificate(mia.certificate.read_bytes())
    assert others == [load_certificate(mia.ca.read_bytes())]
