"""The part of a daemon that is there only while it leads: fleet, jobs and rounds, and who speaks to them."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.api.enrolment import EnrolmentServicer
from coordinator.api.membership import MembershipDesk
from coordinator.api.operator import OperatorPorts, OperatorServicer
from coordinator.api.site import SiteServicer
from coordinator.api.switchboard import handlers_of
from coordinator.audit.log import AuditLog
from coordinator.config import CoordinatorFile
from coordinator.enrolment.pki import Keys
from coordinator.enrolment.registry import DAY_S, Registry
from coordinator.enrolment.succession import CertificateTerms
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.leases.fenced import FencedStore
from coordinator.leases.keeper import LeaseKeeper
from coordinator.metrics.catalog import Catalog
from coordinator.metrics.rounds import CatalogRoundMetrics
from coordinator.rounds.conductor import Conductor
from coordinator.rounds.job_runner import RETURN_S
from coordinator.rounds.services import Services
from coordinator.rounds.signing import Signatory
from coordinator.rounds.timers import LoopTimers
from coordinator.store.base import Store
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.retention import Retention
from coordinator.store.staging import Staging
from coordinator.work.workshop import LeasedWorkshop
from ravan.clock import Clock
from ravan.identity.join import CoordinatorAddress
from ravan.tracing.recording import Tracer
from ravan.wire.v1 import enrolment_service_pb2_grpc, operator_service_pb2_grpc, site_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    """What a process has whether it leads or not."""

    config: CoordinatorFile
    name: str
    """Of the process."""
    store: Store
    blobs: OwnedBlobs
    staging: Staging
    workshop: LocalWorkshop
    keys: Keys
    address: CoordinatorAddress
    timeline: bytes
    catalog: Catalog
    clock: Clock
    tracer: Tracer


class Term:
    """One time as leader, from the taking of the lease to its loss or the daemon's end."""

    def __init__(self, house: Household, keeper: LeaseKeeper) -> None:
        """Build everything; nothing happens yet."""
        config = house.config
        self._outbox = Outbox(house.store)
        patience = Patience(heartbeat_interval_s=config.fleet.heartbeat_interval_s, silence_s=config.fleet.silence_s)
        self.fleet = Fleet(house.store, self._outbox, patience, house.clock)
        self._metrics = CatalogRoundMetrics(house.catalog, house.clock)
        services = self._services(house, FencedStore(house.store, keeper))
        self.conductor = Conductor(services, jobs_at_once=config.scheduling.jobs_at_once)
        self.registry = Registry(
            house.store,
            house.keys,
            house.address,
            house.clock,
            terms=_certificate_terms(config),
            on_renewal=house.catalog.note_renewal,
        )
        self._retention = Retention(
            house.store, house.blobs, house.staging, house.clock, versions=config.retention.versions
        )
        self._operators = OperatorServicer(
            OperatorPorts(
                registry=self.registry,
                fleet=self.fleet,
                store=house.store,
                blobs=house.blobs,
                jobs=self.conductor,
                audit=AuditLog(house.keys.current().manifest_key),
                clock=house.clock,
                minimum_agent_version=config.fleet.minimum_agent_version,
            )
        )
        sites = SiteServicer(
            self.fleet,
            self.conductor,
            MembershipDesk(self.registry, self.fleet, house.keys),
            house.clock,
            heartbeat_interval_s=config.fleet.heartbeat_interval_s,
            timeline=house.timeline,
            minimum_agent_version=config.fleet.minimum_agent_version,
            on_heartbeat=house.catalog.heartbeats.inc,
        )
        enrolment = EnrolmentServicer(self.registry, house.keys)
        self.handlers = {
            **handlers_of(enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server, enrolment),
            **handlers_of(site_service_pb2_grpc.add_SiteServiceServicer_to_server, sites),
            **handlers_of(operator_service_pb2_grpc.add_OperatorServiceServicer_to_server, self._operators),
        }

    async def begin(self) -> None:
        """Take up the jobs and rounds that were going on, and await their sites."""
        await self.registry.load()
        expected = await self.conductor.start()
        await self.fleet.start(self.conductor, expected, RETURN_S)
        self._retention.start()

    async def end_streams(self) -> None:
        """Let sites and watching operators go."""
        self._operators.close()
        await self._retention.stop()
        await self.fleet.stop()

    async def end(self) -> None:
        """Stop every job and round where it is."""
        await self.conductor.stop()
        self._metrics.forget()

    def _services(self, house: Household, fenced: FencedStore) -> Services:
        return Services(
            store=fenced,
            workshop=LeasedWorkshop(
                fenced, house.workshop, house.blobs, holder=house.name, room=house.config.workers.local
            ),
            signatory=Signatory(house.keys.current().manifest_key),
            mailbox=self._outbox,
            uploads=house.staging,
            metrics=self._metrics,
            timers=LoopTimers(house.clock),
            clock=house.clock,
            tracer=house.tracer,
            minimum_agent_version=house.config.fleet.minimum_agent_version,
        )


def _certificate_terms(config: CoordinatorFile) -> CertificateTerms:
    days = config.enrolment
    return CertificateTerms(life_s=days.certificate_days * DAY_S, grace_s=days.renewal_grace_days * DAY_S)
