"""TLS credentials of the two ports and of those who call them; all arguments are PEM."""

from __future__ import annotations

import grpc


def server_tls(*, key: bytes, certificate: bytes) -> grpc.ServerCredentials:
    """Return credentials of the enrolment port: the coordinator proves itself, the client cannot yet."""
    return grpc.ssl_server_credentials([(key, certificate)])


def mutual_tls(*, key: bytes, certificate: bytes, ca_certificate: bytes) -> grpc.ServerCredentials:
    """Return credentials of the site port: a client without a certificate of this CA ends in the handshake."""
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca_certificate, require_client_auth=True)


def enrolling_client(*, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of a client that trusts only this CA and has no certificate yet."""
    return grpc.ssl_channel_credentials(root_certificates=ca_certificate)


def enrolled_client(*, key: bytes, certificate: bytes, ca_certificate: bytes) -> grpc.ChannelCredentials:
    """Return credentials of an agent or operator."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca_certificate, private_key=key, certificate_chain=certificate
    )
