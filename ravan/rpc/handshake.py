"""Why nobody answers, asked of every address of a host: gRPC tells only of the one that failed last."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Final

from ravan.errors import ErrorReason, RavanError
from ravan.identity.certificates import describe_authority
from ravan.rpc.addresses import target_of
from ravan.rpc.status import unproven

_PATIENCE_S: Final = 3.0


async def look_closer(error: RavanError, host: str, port: int, ca_pem: bytes) -> RavanError:
    """Return a better error than an UNREACHABLE one where somebody answers with another CA's certificate."""
    if error.reason is ErrorReason.UNREACHABLE and await _is_unproven(host, port, ca_pem):
        return unproven(target_of(host, port), describe_authority(ca_pem))
    return error


async def _is_unproven(host: str, port: int, ca_pem: bytes) -> bool:
    """Say whether a peer at any of the host's addresses fails to prove itself; tries them one after the other."""
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    # as gRPC judges certificates: an authority below a company's own is trusted by itself
    trust.verify_flags = (trust.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    trust.set_alpn_protocols(["h2"])
    with suppress(OSError, TimeoutError):
        for *_, place in await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    _, writer = await asyncio.open_connection(str(place[0]), port, ssl=trust, server_hostname=host)
            except ssl.SSLCertVerificationError:
                return True
            except (OSError, TimeoutError):
                continue
            writer.close()
    return False
