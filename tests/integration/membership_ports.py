"""Both ports of a coordinator over real TLS, with its register and fleet, for what becomes of a site over the years."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
from identity_ports import HOST

from coordinator.api.enrolment import EnrolmentServicer
from coordinator.api.membership import MembershipDesk
from coordinator.api.site import SiteServicer
from coordinator.enrolment.pki import Keys
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.succession import RenewalOutcome
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience
from coordinator.store.records import SiteRecord
from coordinator.store.sql.store import MEMORY, SqlStore, open_store
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from ravan.clock import ManualClock
from ravan.identity.certificates import Caller
from ravan.identity.join import CoordinatorAddress
from ravan.ids import SiteId
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, bind_port, build_server
from ravan.rpc.tls import mutual_tls, server_tls
from ravan.wire.v1 import enrolment_service_pb2_grpc, site_service_pb2_grpc

PROCESS = b"p" * 16


@dataclass
class Membership:
    """A coordinator whose sites come and go; its clock is the test's."""

    registry: Registry
    fleet: Fleet
    store: SqlStore
    clock: ManualClock
    renewals: list[RenewalOutcome] = field(default_factory=list)

    async def enrol(self, folder: Path, *, at: float | None = None, site: str = "plant-7") -> Identity:
        """Enrol a PC, as it was at some time."""
        now, self.clock.time = self.clock.time, self.clock.time if at is None else at
        join_string, _ = await self.registry.create_token(site)
        identity = await enrol(join_string, folder, timeout_s=20)
        self.clock.time = now
        return identity

    async def site(self, name: str = "plant-7") -> SiteRecord:
        """What the register has of a site."""
        record = await self.store.transact("site", lambda transaction: transaction.get_site(SiteId(name)))
        assert record is not None
        return record


@dataclass(frozen=True)
class Credentials:
    """What both ports show and whom the second lets in."""

    enrolment: grpc.ServerCredentials
    sites: grpc.ServerCredentials


def plain_credentials(keys: Keys) -> Credentials:
    """Those of keys that do not change."""
    pki = keys.current()
    return Credentials(
        enrolment=server_tls(key=pki.server_key, certificate=pki.server_certificate),
        sites=mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.trusted_by_server),
    )


@asynccontextmanager
async def membership(keys: Keys, *, now: float, credentials: Credentials | None = None) -> AsyncIterator[Membership]:
    """Serve enrolment, renewal, watching and leaving; no jobs."""
    store, clock = open_store(MEMORY), ManualClock(now)
    outcomes: list[RenewalOutcome] = []
    shown = credentials or plain_credentials(keys)
    register: list[Registry] = []  # it is made once the ports are known

    def is_revoked(caller: Caller) -> bool:
        return register[0].is_revoked(caller)

    def is_expired(caller: Caller) -> bool:
        return register[0].is_expired(caller)

    policies = (
        GuardPolicy(access=access, is_revoked=is_revoked, is_expired=is_expired)
        for access in (ENROLMENT_PORT, SITE_PORT)
    )
    enrolment, sites = (build_server(policy) for policy in policies)
    address = CoordinatorAddress(
        host=HOST,
        enrolment_port=bind_port(enrolment, Binding(host=HOST, port=0, config_key="enrolment"), shown.enrolment),
        site_port=bind_port(sites, Binding(host=HOST, port=0, config_key="sites"), shown.sites),
    )
    registry = Registry(store, keys, address, clock, on_renewal=outcomes.append)
    register.append(registry)
    fleet = Fleet(store, Outbox(store), Patience(heartbeat_interval_s=5, silence_s=15), clock)
    servicer = SiteServicer(
        fleet,
        cast(Any, None),
        MembershipDesk(registry, fleet, keys),
        clock,
        heartbeat_interval_s=5,
        timeline=b"1" * 16,
        on_heartbeat=lambda: None,
    )
    enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(EnrolmentServicer(registry, keys), enrolment)
    site_service_pb2_grpc.add_SiteServiceServicer_to_server(servicer, sites)
    await asyncio.gather(enrolment.start(), sites.start())
    try:
        yield Membership(registry, fleet, store, clock, outcomes)
    finally:
        await asyncio.gather(enrolment.stop(None), sites.stop(None))
        await store.close()
