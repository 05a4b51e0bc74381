"""Names of all gRPC methods that the coordinator serves, read from the wire's descriptors: a closed label set."""

from __future__ import annotations

from typing import Final

from ravan.wire.v1 import (
    enrolment_service_pb2,
    operator_service_pb2,
    peer_service_pb2,
    site_service_pb2,
    transfer_service_pb2,
)

_FILES: Final = (enrolment_service_pb2, site_service_pb2, transfer_service_pb2, operator_service_pb2, peer_service_pb2)

RPC_METHODS: Final = frozenset(
    f"{service.name}/{method.name}"
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
"""Such as `SiteService/Heartbeat`."""
