"""Visitors of the HTTP port over TLS: their certificates, and what they get."""

from __future__ import annotations

import http.client
import ssl
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordinator.enrolment.ca import Authority, issue_client
from coordinator.enrolment.operators import CERTIFICATE_FILE, KEY_FILE, create_operator
from coordinator.enrolment.pki import CA_CERTIFICATE
from ravan.identity.certificates import Rank, Role, pem_of
from ravan.identity.keys import new_tls_key, private_pem


@dataclass(frozen=True)
class Visitor:
    """Files that somebody has."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return how this visitor speaks TLS."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def connect(self, port: int) -> http.client.HTTPSConnection:
        """Return a connection whose handshake is made."""
        connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=self.context())
        connection.connect()
        return connection

    def ask(self, port: int, path: str, host: str = "localhost") -> tuple[int, str]:
        """Return status and text of a page; raises OSError where the connection is refused."""
        connection = self.connect(port)
        try:
            return fetch(connection, path, host)
        finally:
            connection.close()


def fetch(connection: http.client.HTTPSConnection, path: str, host: str = "localhost") -> tuple[int, str]:
    """Ask over a connection that stands."""
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def nobody(pki: Path) -> Visitor:
    """Return a visitor without a certificate."""
    return Visitor(pki / CA_CERTIFICATE)


def operator(pki: Path, name: str, rank: Rank, out: Path, *, now: float | None = None, life_s: float = 3600) -> Visitor:
    """Return a visitor with a certificate that the command line would have made."""
    life = timedelta(seconds=life_s)
    create_operator(pki, name, rank, life=life, out=out, now=time.time() if now is None else now)
    return Visitor(out / CA_CERTIFICATE, out / CERTIFICATE_FILE, out / KEY_FILE)


def holder(pki: Path, authority: Authority, role: Role, name: str, out: Path) -> Visitor:
    """Return a visitor with a certificate of any role from any authority, who trusts the coordinator in `pki`."""
    key = new_tls_key()
    certificate = issue_client(authority, key.public_key(), role=role, name=name, now=time.time())
    out.mkdir()
    (out / "holder.crt").write_bytes(pem_of([certificate]))
    (out / "holder.key").write_bytes(private_pem(key))
    return Visitor(pki / CA_CERTIFICATE, out / "holder.crt", out / "holder.key")
