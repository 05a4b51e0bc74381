"""Which service is answered by whom: here in any case, by a term's servicers, or by the process that leads."""

from __future__ import annotations

from typing import Final, Protocol

from coordinator.api.peer import PeerServicer
from coordinator.api.relaying import LeaderLink, Relay
from coordinator.api.switchboard import Handlers, Switchboard, handlers_of
from coordinator.api.transfer import TransferServicer, UploadPort
from coordinator.daemon.term import Household
from ravan.ids import Digest
from ravan.rpc.guard import GuardPolicy
from ravan.wire.v1 import (
    enrolment_service_pb2,
    operator_service_pb2,
    peer_service_pb2_grpc,
    site_service_pb2,
    transfer_service_pb2_grpc,
)

_CONTENT: Final = frozenset({"UploadBlob", "DownloadBlob"})
"""Operators' calls that move content, which every process does by itself."""

_READING: Final = frozenset({"ListSites", "ListModels", "ListJobs", "GetJob"})
"""Operators' calls that are answered from the records while nobody leads."""

_RELAYED: Final = tuple(
    method
    for file in (enrolment_service_pb2, site_service_pb2, operator_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


class Transfers(UploadPort, Protocol):
    """Whoever knows what sites may send and have, directly or from who leads."""

    async def may_download(self, digest: Digest) -> bool:
        """Tell whether a site may fetch this blob."""
        ...

    def draw_basis(self, digest: Digest) -> bytes | None:
        """Build the basis of this hash anew."""
        ...


def connect_services(
    switchboard: Switchboard,
    link: LeaderLink,
    house: Household,
    transfers: Transfers,
    *,
    standby: Handlers,
    relayed: GuardPolicy,
) -> None:
    """Put up the handlers that do not come and go with the lease.

    `standby` are those of operators' calls; `relayed` says which calls of other processes are let in.
    """
    transfer = TransferServicer(
        blobs=house.blobs,
        staging=house.staging,
        uploads=transfers,
        basis=transfers.draw_basis,
        may_download=transfers.may_download,
        on_bytes=_ignore_bytes,
    )
    peers = PeerServicer(switchboard, transfers, relayed)
    switchboard.always = {
        **handlers_of(transfer_service_pb2_grpc.add_TransferServiceServicer_to_server, transfer),
        **handlers_of(peer_service_pb2_grpc.add_PeerServiceServicer_to_server, peers),
        **_named(standby, _CONTENT),
    }
    passed_on = [method for method in _RELAYED if method.name not in _CONTENT]
    switchboard.following = Relay(link, switchboard, _named(standby, _READING)).handlers(passed_on)


def _named(handlers: Handlers, names: frozenset[str]) -> Handlers:
    return {method: handler for method, handler in handlers.items() if method.rpartition("/")[2] in names}


def _ignore_bytes(count: int) -> None:
    """Count nothing: the conductor counts vectors that arrived whole, once each."""
