"""Why nobody answers, asked of every address of a host: gRPC tells only of the one that failed last."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from ravan.errors import ErrorReason, IdentityError, RavanError
from ravan.identity.certificates import describe_authority, is_issued_by, load_certificates
from ravan.identity.keys import UNREADABLE
from ravan.rpc.addresses import target_of
from ravan.rpc.clock_faults import certificate_out_of_time
from ravan.rpc.proxy import dial
from ravan.rpc.status import unproven
from ravan.way_out import Proxy

_PATIENCE_S: Final = 3.0

_OUT_OF_TIME: Final = frozenset({9, 10})
"""OpenSSL's numbers for a certificate that is not good yet, and for one that is not good any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen at a port."""

    is_proven: bool = False
    """Somebody answers, and proves to be the coordinator."""
    fault: IdentityError | None = None
    """Somebody answers, and does not."""


async def look_closer(error: RavanError, host: str, port: int, ca_pem: bytes, proxy: Proxy | None = None) -> RavanError:
    """Return a better error than one of a failed connection, where the certificate of who answers tells more."""
    if error.reason not in {ErrorReason.UNREACHABLE, ErrorReason.IDENTITY_MISMATCH}:
        return error
    return (await look(host, port, ca_pem, proxy)).fault or error


async def look(host: str, port: int, ca_pem: bytes, proxy: Proxy | None) -> Sight:
    """Look at the certificates that are shown at each address of a host."""
    is_proven = False
    for address in [host] if proxy is not None else await _addresses(host, port):
        peer = _Peer(address=address, host=host, port=port, proxy=proxy)
        try:
            async with peer.shows(_trusting(ca_pem)):
                is_proven = True
        except ssl.SSLCertVerificationError as refusal:
            return Sight(fault=await _fault(peer, ca_pem, is_late_or_early=refusal.verify_code in _OUT_OF_TIME))
        except (OSError, TimeoutError):
            continue
    return Sight(is_proven=is_proven)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peer:
    """Whoever answers at one address of a host."""

    address: str
    host: str
    port: int
    proxy: Proxy | None

    @asynccontextmanager
    async def shows(self, trust: ssl.SSLContext) -> AsyncIterator[bytes]:
        """Yield the certificate that it shows, DER; raise OSError or TimeoutError."""
        async with asyncio.timeout(_PATIENCE_S):
            _, writer = await dial(self.address, self.port, self.proxy)
            try:
                await writer.start_tls(trust, server_hostname=self.host)
                yield writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                writer.close()


async def _fault(peer: _Peer, ca_pem: bytes, *, is_late_or_early: bool) -> IdentityError:
    place, authorities = target_of(peer.host, peer.port), load_certificates(ca_pem)
    fault = None
    if is_late_or_early:
        with suppress(OSError, TimeoutError, *UNREADABLE):
            async with peer.shows(_incurious()) as raw:
                certificate = x509.load_der_x509_certificate(raw)
            # whoever is there may say of time what it likes, but not in a certificate of this authority
            for issuer in (each for each in authorities if is_issued_by(certificate, each)):
                fault = certificate_out_of_time(place, certificate, issuer, time.time())
    return fault or unproven(place, describe_authority(ca_pem))


async def _addresses(host: str, port: int) -> list[str]:
    """Return the host's addresses, none where it has none."""
    with suppress(OSError):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(place[0]) for *_, place in found]
    return []


def _trusting(ca_pem: bytes) -> ssl.SSLContext:
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    # as gRPC judges certificates: an authority below a company's own is trusted by itself
    trust.verify_flags = (trust.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    trust.set_alpn_protocols(["h2"])
    return trust


def _incurious() -> ssl.SSLContext:
    """Return a context for looking at a certificate that is known to be refused; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
