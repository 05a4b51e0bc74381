"""What a process knows of jobs and sites while it does not lead: what is stored."""

from __future__ import annotations

import math
import time
from typing import Final

from coordinator.api.operator import OperatorPorts, OperatorServicer
from coordinator.api.switchboard import Handler, handlers_of
from coordinator.audit.log import AuditLog
from coordinator.daemon.term import Household
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.succession import good_until
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience
from coordinator.rounds.recorded import RecordedJobs
from coordinator.store.base import Store
from ravan.clock import Clock
from ravan.identity.certificates import Caller, Role
from ravan.manifest.plan import JobPlan
from ravan.wire.v1 import operator_service_pb2_grpc

LOOK_EVERY_S: Final = 5.0
"""How old what it knows of revoked sites may be; whoever leads refuses them at once."""


class Following:
    """The records, seen from beside."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.jobs = RecordedJobs(store)
        self.plans: tuple[JobPlan, ...] = ()
        """Of the jobs that have not ended."""
        self._store = store
        self._clock = clock
        self._revoked: frozenset[str] = frozenset()
        self._good_until: dict[str, float] = {}
        self._looked_at = float("-inf")

    async def look(self) -> None:
        """Read again what may have changed, now and then."""
        if time.monotonic() < self._looked_at + LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        sites = await self._store.transact("list_sites", lambda transaction: transaction.list_sites())
        self._revoked = frozenset(
            serial
            for site in sites
            if site.revoked_at is not None
            for serial in (site.certificate_serial, site.previous_serial)
        )
        self._good_until = {serial: end for site in sites for serial, end in good_until(site).items()}
        self.plans = await self.jobs.plans()

    def is_revoked(self, caller: Caller) -> bool:
        """Tell whether a certificate is known to be revoked; whoever leads knows best, and is asked by each call."""
        return caller.role is Role.AGENT and caller.serial in self._revoked

    def is_expired(self, caller: Caller) -> bool:
        """Tell whether a connection is known to have outlived its certificate."""
        return caller.role is Role.AGENT and self._clock.now() >= self._good_until.get(caller.serial, math.inf)

    def handlers(self, house: Household) -> dict[str, Handler]:
        """Return handlers of operators' calls that need nobody's lead; no site is shown as connected."""
        patience = Patience(heartbeat_interval_s=1, silence_s=1)
        operators = OperatorServicer(
            OperatorPorts(
                registry=Registry(house.store, house.keys, house.address, house.clock),
                fleet=Fleet(house.store, Outbox(house.store), patience, house.clock),
                store=house.store,
                blobs=house.blobs,
                jobs=self.jobs,
                audit=AuditLog(house.keys.current().manifest_key),
                clock=house.clock,
                minimum_agent_version=house.config.fleet.minimum_agent_version,
            )
        )
        return handlers_of(operator_service_pb2_grpc.add_OperatorServiceServicer_to_server, operators)
