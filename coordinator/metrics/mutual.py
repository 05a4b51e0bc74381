"""The HTTP port over mutual TLS: operators see everything, probes without a certificate the health, others nothing."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from socket import socket
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.pki import Keys, Pki, ServerFiles
from coordinator.metrics.doors import Page
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, is_good_at, read_caller
from ravan.rpc.admission import TokenBucket
from ravan.rpc.guard import GuardPolicy
from ravan.rpc.ranks import HTTP

log = structlog.stdlib.get_logger(__name__)

HANDSHAKE_S: Final = 10.0
"""Longest handshake; each is made in the thread of its connection, so that it keeps nobody waiting."""

_NEWS_EVERY_S: Final = 60.0
"""How often a certificate that does not get through the handshake is worth a line of the log."""

_EXPIRED: Final = 10
"""`X509_V_ERR_CERT_HAS_EXPIRED` of OpenSSL."""


class MutualDoor:
    """Show the coordinator's certificate, and judge by the visitor's at each request."""

    def __init__(self, keys: Keys, files: ServerFiles, policy: GuardPolicy, now: Callable[[], float]) -> None:
        """Use the server certificate in `files`, which `keys` has checked; `now` is in seconds since the Unix epoch.

        Raises IdentityError where OpenSSL does not take the certificate.
        """
        self._keys = keys
        self._files = files
        self._policy = policy
        self._now = now
        self._lock = threading.Lock()
        self._shown = keys.current()
        self._context = _build_context(self._shown, files)
        self._news = TokenBucket(1 / _NEWS_EVERY_S, 1, time.monotonic())

    def receive(self, connection: socket) -> socket:
        """Make the handshake with the certificates of now; raise OSError where it fails."""
        connection.settimeout(HANDSHAKE_S)
        try:
            return self._current_context().wrap_socket(connection, server_side=True)
        except ssl.SSLCertVerificationError as error:
            self._note(error)
            raise

    def admit(self, connection: socket, page: Page) -> None:
        """Raise IdentityError unless the visitor is an operator, or shows no certificate and asks for the health alone.

        Kubernetes' probes have no certificate. Whoever shows one is judged by it.
        """
        shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        if shown is not None:
            self._admit_holder(x509.load_der_x509_certificate(shown), page)
        elif page is not Page.HEALTH:
            self._policy.on_refusal(ErrorReason.PERMISSION_DENIED)
            raise IdentityError(
                "Without a certificate only /healthz and /readyz are shown.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step="Use an operator's certificate: `ravan-coordinator operator create NAME --role viewer"
                " --out DIR`.",
            )

    def _admit_holder(self, certificate: x509.Certificate, page: Page) -> None:
        policy = replace(self._policy, is_expired=lambda _: not is_good_at(certificate, self._now()))
        try:
            policy.admit(f"/{HTTP}/{page}", read_caller(certificate.public_bytes(Encoding.PEM)), Role.OPERATOR)
        except IdentityError as error:
            policy.on_refusal(error.reason)
            raise

    def _current_context(self) -> ssl.SSLContext:
        keys = self._keys.current()
        with self._lock:
            if keys is not self._shown:
                self._shown = keys
                try:
                    self._context = _build_context(keys, self._files)
                except IdentityError as error:
                    # Files in the middle of a change: the keys are others again in a moment.
                    log.error("the HTTP port shows the certificate of before", why=str(error))
            return self._context

    def _note(self, error: ssl.SSLCertVerificationError) -> None:
        expired = error.verify_code == _EXPIRED
        self._policy.on_refusal(ErrorReason.IDENTITY_EXPIRED if expired else ErrorReason.IDENTITY_MISMATCH)
        with self._lock:
            is_news = self._news.take(time.monotonic())
        if is_news:
            log.warning(
                "a certificate was refused on the HTTP port",
                why=error.verify_message,
                next_step="Use one that `ravan-coordinator operator create` made here.",
            )


def _build_context(pki: Pki, files: ServerFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A resumed session would bring back a certificate that nobody looks at again.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    # The authority may itself be signed by one of the house, which is not asked; gRPC does the same.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        # The library reads the pair from files alone; an empty password keeps it from asking the terminal for one.
        context.load_cert_chain(files.certificate, files.key, password="")
        context.load_verify_locations(cadata=pki.trusted_by_server.decode())
    except (ssl.SSLError, OSError, ValueError) as error:
        raise IdentityError(
            f"{files.certificate} and its key cannot be used for TLS: {error}.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Put back a pair that belongs together, or make a new one: `ravan-coordinator ca renew`.",
        ) from error
    return context
