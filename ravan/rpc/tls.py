"""TLS credentials of the two ports and of those who call them; all arguments are PEM."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import grpc

_HANDSHAKE_BEGINS_S: Final = 0.1
"""Far more than a thread of gRPC's takes from asking what to show until it holds on to the answer."""


def server_tls(*, key: bytes, certificate: bytes) -> grpc.ServerCredentials:
    """Return credentials of the enrolment port: the coordinator proves itself, the client cannot yet."""
    return grpc.ssl_server_credentials([(key, certificate)])


def mutual_tls(*, key: bytes, certificate: bytes, ca_certificate: bytes) -> grpc.ServerCredentials:
    """Return credentials of the site port: a client without a certificate of this CA ends in the handshake."""
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca_certificate, require_client_auth=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerShow:
    """What a server shows in a handshake, and whom it lets in; all PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    client_authorities: bytes = b""
    """One after the other; empty lets in clients without a certificate."""


def live_tls(show: Callable[[], ServerShow]) -> grpc.ServerCredentials:
    """Return credentials for one port that ask at each handshake what to show, from threads of gRPC's.

    Whoever binds a port with them has to keep them for as long as the port is open: gRPC does not. Whether
    clients need a certificate is settled by the first answer.

    gRPC frees what an answer replaces although a handshake may be about to use it (grpc/grpc#36693): with an answer to
    each, a few hundred agents that connected together ended the process. So nothing is answered while nothing
    has changed; and since gRPC lets no handshake ask while another does, a changed answer waits until those that asked
    before have begun.
    """
    shown = show()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        now = show()
        if now == shown:
            return None
        time.sleep(_HANDSHAKE_BEGINS_S)
        shown = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        # The stubs do not know that None says "as before".
        _configuration(shown),
        cast(Callable[[], grpc.ServerCertificateConfiguration], fetch),
        require_client_authentication=bool(shown.client_authorities),
    )


def _configuration(show: ServerShow) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(show.key, show.certificate)], root_certificates=show.client_authorities or None
    )


def enrolling_client(*, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of a client that trusts only this CA and has no certificate yet."""
    return grpc.ssl_channel_credentials(root_certificates=ca_certificate)


def enrolled_client(*, key: bytes, certificate: bytes, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of an agent or operator."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca_certificate, private_key=key, certificate_chain=certificate
    )
