"""The enrolment servicer: the only one that answers without a client certificate."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are the wire's

from __future__ import annotations

from typing import Any

from grpc import aio

from coordinator.api.membership import grant_of
from coordinator.enrolment.pki import Keys
from coordinator.enrolment.registry import Application, Registry
from ravan.codec import fields
from ravan.codec.grants import grant_to_wire
from ravan.identity.renewal import Renewal
from ravan.wire.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc

_Context = aio.ServicerContext[Any, Any]


class EnrolmentServicer(enrolment_service_pb2_grpc.EnrolmentServiceServicer):
    """Translate enrolment calls."""

    def __init__(self, registry: Registry, keys: Keys) -> None:
        self._registry = registry
        self._keys = keys

    async def Enrol(
        self, request: enrolment_service_pb2.EnrolRequest, context: _Context
    ) -> enrolment_service_pb2.EnrolResponse:
        """Enrol a PC."""
        site = await self._registry.enrol(
            Application(
                token_id=request.token_id,
                token_secret=request.token_secret,
                tls_csr=request.tls_csr,
                identity_key=request.identity_key,
                identity_proof=request.identity_proof,
            )
        )
        pki = self._keys.current()
        return enrolment_service_pb2.EnrolResponse(
            certificate_pem=site.certificate_pem,
            ca_certificate_pem=pki.ca_pem,
            site=site.name,
            manifest_key=pki.manifest_public,
            coordinator_time=self._registry.now(),
        )

    async def BeginRenewal(
        self, request: enrolment_service_pb2.BeginRenewalRequest, context: _Context
    ) -> enrolment_service_pb2.BeginRenewalResponse:
        """Hand out a challenge."""
        return enrolment_service_pb2.BeginRenewalResponse(
            challenge=self._registry.challenge(), coordinator_time=self._registry.now()
        )

    async def RenewExpired(
        self, request: enrolment_service_pb2.RenewExpiredRequest, context: _Context
    ) -> enrolment_service_pb2.RenewExpiredResponse:
        """Renew for a site that cannot show a certificate any more."""
        renewal = Renewal(
            site=fields.site(request.site),
            serial=request.serial,
            tls_csr=request.tls_csr,
            challenge=request.challenge,
        )
        site = await self._registry.recover(renewal, request.proof)
        grant = grant_to_wire(grant_of(site, self._keys))
        return enrolment_service_pb2.RenewExpiredResponse(grant=grant)
