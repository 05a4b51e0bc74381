"""The enrolment servicer: the only one that answers without a client certificate."""

from __future__ import annotations

from typing import Any

from grpc import aio

from coordinator.enrolment.pki import Pki
from coordinator.enrolment.registry import Application, Registry
from ravan.wire.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc


class EnrolmentServicer(enrolment_service_pb2_grpc.EnrolmentServiceServicer):
    """Translate enrolment calls."""

    def __init__(self, registry: Registry, pki: Pki) -> None:
        self._registry = registry
        self._pki = pki

    async def Enrol(  # noqa: N802 - the wire's name
        self,
        request: enrolment_service_pb2.EnrolRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002
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
        return enrolment_service_pb2.EnrolResponse(
            certificate_pem=site.certificate_pem,
            ca_certificate_pem=self._pki.ca_pem,
            site=site.name,
            manifest_key=self._pki.manifest_public,
        )
