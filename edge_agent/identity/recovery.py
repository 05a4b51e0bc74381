"""Renewal over the enrolment port, for a PC that the other port's handshake does not let in any more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grpc import aio

from edge_agent.identity.asking import ask
from edge_agent.identity.grants import accept_grant
from edge_agent.identity.keystore import Identity, make_next_key, save_renewal
from edge_agent.identity.reach import STRAIGHT, Reach
from ravan.codec.grants import grant_from_wire
from ravan.identity.certificates import load_certificate, serial_text
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keys import certificate_request
from ravan.identity.renewal import CertificateGrant, Renewal
from ravan.wire.v1 import enrolment_service_pb2 as wire
from ravan.wire.v1 import enrolment_service_pb2_grpc

TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the renewal is asked with."""

    serial: str
    """Of the certificate that is renewed."""
    tls_csr: bytes


async def renew_by_identity(folder: Path, identity: Identity, reach: Reach = STRAIGHT) -> Identity:
    """Fetch the next certificate by the identity key alone and write it; raise RavanError."""
    key = make_next_key(folder)
    request = Request(serial=serial_text(load_certificate(identity.certificate)), tls_csr=certificate_request(key))
    renewed = accept_grant(identity, key, await recover(identity, request, reach))
    save_renewal(folder, renewed)
    return renewed


async def recover(identity: Identity, request: Request, reach: Reach = STRAIGHT) -> CertificateGrant:
    """Prove the identity key and return the next certificate; raise RavanError when that fails."""

    async def call(channel: aio.Channel) -> wire.RenewExpiredResponse:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        begun = await stub.BeginRenewal(wire.BeginRenewalRequest(), timeout=TIMEOUT_S)
        renewal = Renewal(site=identity.site, serial=request.serial, tls_csr=request.tls_csr, challenge=begun.challenge)
        return await stub.RenewExpired(_signed(renewal, identity), timeout=TIMEOUT_S)

    answer = await ask(identity.address, reach, identity.ca_certificate, call)
    return grant_from_wire(answer.grant)


async def ask_time(own: CoordinatorAddress, reach: Reach, ca_pem: bytes) -> float:
    """Return the coordinator's time, 0 from older releases; raise RavanError."""

    async def call(channel: aio.Channel) -> wire.BeginRenewalResponse:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        return await stub.BeginRenewal(wire.BeginRenewalRequest(), timeout=TIMEOUT_S)

    return (await ask(own, reach, ca_pem, call)).coordinator_time


def _signed(renewal: Renewal, identity: Identity) -> wire.RenewExpiredRequest:
    return wire.RenewExpiredRequest(
        site=renewal.site,
        serial=renewal.serial,
        tls_csr=renewal.tls_csr,
        challenge=renewal.challenge,
        proof=renewal.sign(identity.identity_key),
    )
