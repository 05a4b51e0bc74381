"""TLS credentials of the two ports and of those who call them; all arguments are PEM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc


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
    """Return credentials that ask at each handshake what to show, from threads of gRPC's.

    Whoever binds a port with them has to keep them for as long as the port is open: gRPC does not. Whether
    clients need a certificate is settled by the first answer.
    """
    needs_certificate = bool(show().client_authorities)

    def fetch() -> grpc.ServerCertificateConfiguration:
        now = show()
        return grpc.ssl_server_certificate_configuration(
            [(now.key, now.certificate)], root_certificates=now.client_authorities or None
        )

    return grpc.dynamic_ssl_server_credentials(fetch(), fetch, require_client_authentication=needs_certificate)


def enrolling_client(*, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of a client that trusts only this CA and has no certificate yet."""
    return grpc.ssl_channel_credentials(root_certificates=ca_certificate)


def enrolled_client(*, key: bytes, certificate: bytes, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of an agent or operator."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca_certificate, private_key=key, certificate_chain=certificate
    )
