"""Renewal over the enrolment port, for a PC that the other port's handshake does not let in any more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grpc import aio

from edge_agent.identity.grants import accept_grant
from edge_agent.identity.keystore import Identity, make_next_key, save_renewal
from ravan.codec.grants import grant_from_wire
from ravan.identity.certificates import describe_authority, load_certificate, serial_text
from ravan.identity.keys import certificate_request
from ravan.identity.renewal import CertificateGrant, Renewal
from ravan.rpc.addresses import target_of
from ravan.rpc.channel import open_channel
from ravan.rpc.handshake import look_closer
from ravan.rpc.status import error_from_rpc
from ravan.rpc.tls import enrolling_client
from ravan.wire.v1 import enrolment_service_pb2 as wire
from ravan.wire.v1 import enrolment_service_pb2_grpc

TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the renewal is asked with."""

    serial: str
    """Of the certificate that is renewed."""
    tls_csr: bytes


async def renew_by_identity(folder: Path, identity: Identity) -> Identity:
    """Fetch the next certificate by the identity key alone and write it; raise RavanError."""
    key = make_next_key(folder)
    request = Request(serial=serial_text(load_certificate(identity.certificate)), tls_csr=certificate_request(key))
    renewed = accept_grant(identity, key, await recover(identity, request))
    save_renewal(folder, renewed)
    return renewed


async def recover(identity: Identity, request: Request) -> CertificateGrant:
    """Prove the identity key and return the next certificate; raise RavanError when that fails."""
    address = identity.address
    credentials = enrolling_client(ca_certificate=identity.ca_certificate)
    async with open_channel(address.host, address.enrolment_port, credentials) as channel:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        try:
            begun = await stub.BeginRenewal(wire.BeginRenewalRequest(), timeout=TIMEOUT_S)
            renewal = Renewal(
                site=identity.site, serial=request.serial, tls_csr=request.tls_csr, challenge=begun.challenge
            )
            answer = await stub.RenewExpired(_signed(renewal, identity), timeout=TIMEOUT_S)
        except aio.AioRpcError as error:
            refusal = error_from_rpc(
                error,
                address=target_of(address.host, address.enrolment_port),
                authority=describe_authority(identity.ca_certificate),
            )
            raise await look_closer(refusal, address.host, address.enrolment_port, identity.ca_certificate) from error
    return grant_from_wire(answer.grant)


def _signed(renewal: Renewal, identity: Identity) -> wire.RenewExpiredRequest:
    return wire.RenewExpiredRequest(
        site=renewal.site,
        serial=renewal.serial,
        tls_csr=renewal.tls_csr,
        challenge=renewal.challenge,
        proof=renewal.sign(identity.identity_key),
    )
