"""The coordinator's composition root: the only place that builds the daemon's parts and starts and stops them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from coordinator.api.relaying import LeaderLink
from coordinator.api.switchboard import Switchboard
from coordinator.audit.chain import AuditEntry
from coordinator.audit.log import AuditLog
from coordinator.audit.starting import record_start
from coordinator.config import CoordinatorFile, DataFolder, server_files
from coordinator.daemon.bound_ports import BoundPorts, forget_ports
from coordinator.daemon.data_lock import hold_data_folder, share_data_folder, workers_are_there
from coordinator.daemon.denials import Denials
from coordinator.daemon.following import Following
from coordinator.daemon.listening import Listeners
from coordinator.daemon.open_files import allow_open_files
from coordinator.daemon.switching import connect_services
from coordinator.daemon.term import Household, Term
from coordinator.enrolment.live_keys import LiveKeys
from coordinator.enrolment.operator_book import RevokedOperators
from coordinator.enrolment.registry import Registry
from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.leases.keeper import TERM_S, LeaseKeeper, process_name
from coordinator.leases.lease import ROUNDS, Claim, Lease
from coordinator.leases.succession import Succession
from coordinator.metrics.catalog import Catalog
from coordinator.metrics.census import Census, Expiries
from coordinator.metrics.disk import DiskUse
from coordinator.metrics.http import HttpContent, HttpServer
from coordinator.status.gathering import Presence
from coordinator.status.reading import StatusReader
from coordinator.status.style import STYLESHEET
from coordinator.storage import open_blobs, records_place
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.sql.store import SqlStore, open_store
from coordinator.store.staging import Staging
from ravan.clock import SystemClock
from ravan.heap import give_back_at_once, share_arenas
from ravan.identity.certificates import Caller, Role
from ravan.identity.join import CoordinatorAddress
from ravan.ids import Digest, SiteId
from ravan.logs import set_up_logs
from ravan.manifest.instructions import RoundRef
from ravan.rpc.addresses import target_of
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT
from ravan.rpc.otlp import open_exporter
from ravan.rpc.server import Health
from ravan.secagg.messages import MaskedHeader
from ravan.tracing.recording import Tracer
from ravan.version import VERSION

log = structlog.stdlib.get_logger(__name__)

HEAPS = 2
"""From which all threads take their memory."""

CHUNK_BLOCK_BYTES = 320 << 10
"""A chunk with its frame: thousands of them a minute need not each come from the system."""

SPARE_BYTES = 8 << 20
"""What each heap keeps for the next chunks."""

SWITCH_S = 0.001
"""How long a thread that computes keeps others from the interpreter, heartbeats too; by default five times it."""

GRACE_S = 3.0
"""How long calls in progress may go on after the daemon was told to stop."""


def run_daemon(config: CoordinatorFile) -> None:
    """Run until SIGTERM or SIGINT; raise RavanError when the daemon cannot start."""
    os.umask(0o077)
    give_back_at_once(above_bytes=CHUNK_BLOCK_BYTES, spare_bytes=SPARE_BYTES)
    share_arenas(HEAPS)
    sys.setswitchinterval(SWITCH_S)
    allow_open_files()
    set_up_logs(config.log)
    with _data_folder(config) as alone:
        asyncio.run(_serve(config, alone=alone))


@contextmanager
def _data_folder(config: CoordinatorFile) -> Iterator[bool]:
    """Hold the data folder, or share it where the records are at a server; tell whether nobody else uses it."""
    folder = DataFolder(config.server.data_dir)
    if config.database.url:
        with share_data_folder(folder) as alone:
            yield alone and not workers_are_there(folder)
    else:
        with hold_data_folder(folder):
            yield not workers_are_there(folder)


async def _serve(config: CoordinatorFile, *, alone: bool) -> None:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    catalog = Catalog()
    store = await asyncio.to_thread(open_store, records_place(config), catalog.note_transaction)
    try:
        blobs = await asyncio.to_thread(open_blobs, config)
        if alone:
            # What others are storing just now is no leftover.
            await asyncio.to_thread(blobs.discard_incoming)
        stores = Stores(
            records=store,
            blobs=blobs,
            timeline=await store.transact("read_timeline", lambda transaction: transaction.current_timeline()),
        )
        daemon = Daemon(config, stores, catalog)
        try:
            await daemon.start()
            await told_to_stop.wait()
            log.info("stopping")
        finally:
            await daemon.stop()
    finally:
        await store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the daemon remembers with."""

    records: SqlStore
    blobs: OwnedBlobs
    timeline: bytes
    """Changes when the records are put back to a backup."""


class Daemon:
    """All parts of a running coordinator process: those of a leader come and go with the lease."""

    def __init__(self, config: CoordinatorFile, stores: Stores, catalog: Catalog) -> None:
        """Build everything and bind the ports; nothing answers yet.

        Raises ResourceError (PORT_IN_USE), IdentityError when the keys cannot be read, ConfigError when traces can be
        sent nowhere.
        """
        self._config = config
        self._folder = folder = DataFolder(config.server.data_dir)
        self._store = stores.records
        self._catalog = catalog
        self._clock = SystemClock()
        self._name = process_name()
        self._traces = open_exporter(config.tracing, "ravan-coordinator", self._name, catalog.lost_spans.inc)
        self._keys = LiveKeys(folder.pki, server_files(config))
        self._revoked_operators = RevokedOperators(folder.pki)
        self._blobs = stores.blobs
        self._staging = Staging(folder.staging, stores.blobs.quota)
        self._worker = ModelWorker(self._blobs, folder.work, threads=config.evaluation.threads)
        self._ready = False
        self._term: Term | None = None
        self._following = Following(self._store, self._clock)
        self._census = self._count()
        self._status = StatusReader(self._store, self._presence, self._clock)
        self._switchboard = Switchboard()
        self._link = LeaderLink(self._keys, self._clock)
        self._listeners = Listeners(
            config,
            self._keys,
            catalog,
            is_revoked=self._is_revoked,
            is_expired=self._is_expired,
            on_denial=Denials(self._record).note,
        )
        self._http = self._open_http()
        self._enrolment, self._sites = self._listeners.enrolment, self._listeners.sites
        self._ports = self._bind()
        self._house = self._furnish(stores.timeline)
        self._health = self._add_services()
        self._succession = Succession(self, self._new_keeper)

    async def start(self) -> None:
        """Lead or follow, open the ports and say so."""
        await self._record_start()
        self._http.start()
        if self._traces is not None:
            self._traces.start()
        # Who holds the data folder has outlived everyone else that worked on its file.
        await self._succession.start(holder_is_dead=not self._config.database.url)
        for server in (self._enrolment, self._sites):
            await server.start()
        for health in self._health:
            await health.announce_serving()
        self._status.addresses = self._ports.addresses(self._config.server)
        self._ports.write_to(self._folder.ports)
        self._ready = True
        print(f"ravan-coordinator {VERSION} ready: {self._where()}", flush=True)

    async def stop(self) -> None:
        """Say that it leaves, let calls end, and stop every part in order."""
        self._ready = False
        for health in self._health:
            await health.announce_leaving()
        self._switchboard.leading = {}
        if self._term is not None:
            await self._term.end_streams()
        await self._link.turn_to("", 0)
        await asyncio.gather(self._enrolment.stop(GRACE_S), self._sites.stop(GRACE_S))
        await self._succession.stop()
        await self._worker.close()
        if self._traces is not None:
            await self._traces.stop()
        await asyncio.to_thread(self._http.stop)
        forget_ports(self._folder.ports)

    async def _record(self, entry: AuditEntry) -> None:
        audit = AuditLog(self._keys.current().manifest_key)
        await self._store.transact("append_audit", lambda transaction: audit.append(transaction, entry))

    async def _record_start(self) -> None:
        audit = AuditLog(self._keys.current().manifest_key)
        configuration = Digest(hashlib.sha256(self._config.model_dump_json().encode()).digest())
        await self._store.transact(
            "record_start",
            lambda transaction: record_start(
                transaction, audit, version=VERSION, process=self._name, configuration=configuration
            ),
        )

    # Leading and following

    async def lead(self, keeper: LeaseKeeper) -> None:
        """Take up jobs and rounds, and answer every call here."""
        term = Term(self._house, keeper)
        try:
            await term.begin()
        except BaseException:
            await term.end_streams()
            await term.end()
            raise
        self._term = term
        self._switchboard.leading = term.handlers
        await self._link.turn_to("", keeper.held.fence)

    async def stand_down(self) -> None:
        """Let jobs and rounds go on elsewhere."""
        term, self._term = self._term, None
        self._switchboard.leading = {}
        if term is not None:
            await term.end_streams()
            await term.end()

    async def follow(self, leader: Lease) -> None:
        """Pass calls on to the process that leads."""
        await self._link.turn_to(leader.address, leader.fence)
        await self._following.look()

    # Uploads and downloads, which every process serves

    async def announce(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader) -> None:
        """Have whoever leads check a header."""
        port = self._link if self._term is None else self._term.conductor
        await port.announce(site, round_ref, header)

    async def arrived(self, site: SiteId, round_ref: RoundRef, header: MaskedHeader, path: Path) -> None:
        """Tell whoever leads of a whole vector."""
        port = self._link if self._term is None else self._term.conductor
        await port.arrived(site, round_ref, header, path)

    async def may_download(self, digest: Digest) -> bool:
        """Tell whether a site may fetch this blob."""
        rounds = self._following.jobs if self._term is None else self._term.conductor
        return await rounds.may_download(digest)

    def draw_basis(self, digest: Digest) -> bytes | None:
        """Build the basis of this hash anew, for a job that runs."""
        from coordinator.jobs.submission import basis_blob  # noqa: PLC0415 - it draws numbers

        for plan in self._following.plans if self._term is None else self._term.conductor.plans():
            basis = basis_blob(plan, digest, self._blobs)
            if basis is not None:
                self._catalog.basis_downloads.inc()
                return basis
        return None

    # Parts

    def _new_keeper(self) -> LeaseKeeper:
        address = target_of(self._config.server.peer_host or self._house.address.host, self._house.address.site_port)
        claim = Claim(name=ROUNDS, holder=self._name, address=address, term_s=TERM_S)
        return LeaseKeeper(self._store, claim, self._catalog)

    def _furnish(self, timeline: bytes) -> Household:
        return Household(
            config=self._config,
            name=self._name,
            store=self._store,
            blobs=self._blobs,
            staging=self._staging,
            workshop=LocalWorkshop(self._blobs, self._worker),
            keys=self._keys,
            address=CoordinatorAddress(
                host=self._config.server.hosts[0],
                enrolment_port=self._ports.enrolment_port,
                site_port=self._ports.site_port,
            ),
            timeline=timeline,
            catalog=self._catalog,
            clock=self._clock,
            tracer=Tracer(self._traces, self._clock),
        )

    def _count(self) -> Census:
        return Census(
            self._catalog,
            self._store,
            lambda: {} if self._term is None else self._term.fleet.online(),
            self._clock,
            disk=DiskUse(self._folder, self._store.size_bytes),
            expiries=self._expiries,
        )

    def _presence(self) -> Presence:
        term = self._term
        return Presence(
            online={} if term is None else term.fleet.online(),
            resting={} if term is None else term.conductor.resting(),
            minimum_agent_version=self._config.fleet.minimum_agent_version,
            now=self._clock.now(),
        )

    def _open_http(self) -> HttpServer:
        server = self._config.server
        content = HttpContent(
            registry=self._catalog.registry,
            refresh=self._census.refresh_from_thread,
            is_ready=lambda: self._ready,
            status_page=self._status.render_from_thread,
            stylesheet=STYLESHEET,
        )
        door = self._listeners.http_door(self._clock.now)
        return HttpServer(content, host=server.http_listen, port=server.http_port, names=server.hosts, door=door)

    def _bind(self) -> BoundPorts:
        enrolment_port, site_port = self._listeners.bind()
        return BoundPorts(enrolment_port=enrolment_port, site_port=site_port, http_port=self._http.port)

    def _expiries(self) -> Expiries:
        pki = self._keys.current()
        return Expiries(ca=pki.ca_expires_at, server=pki.server_expires_at)

    def _add_services(self) -> tuple[Health, Health]:
        standby = self._following.handlers(self._house)
        connect_services(
            self._switchboard, self._link, self._house, self, standby=standby, relayed=self._listeners.relayed
        )
        for server in (self._enrolment, self._sites):
            server.add_generic_rpc_handlers((self._switchboard,))
        health = Health(tuple(ENROLMENT_PORT)), Health(tuple(SITE_PORT))
        health[0].add_to(self._enrolment)
        health[1].add_to(self._sites)
        return health

    def _is_revoked(self, caller: Caller) -> bool:
        if caller.role is Role.OPERATOR:
            return self._revoked_operators.include(caller)
        return self._known_sites().is_revoked(caller)

    def _is_expired(self, caller: Caller) -> bool:
        return self._known_sites().is_expired(caller)

    def _known_sites(self) -> Following | Registry:
        return self._following if self._term is None else self._term.registry

    def _where(self) -> str:
        return ", ".join(f"{name} {address}" for name, address in self._status.addresses)
