"""The coordinator's composition root: the only place that builds the daemon's parts and starts and stops them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass

import structlog
from grpc import aio

from coordinator.api.enrolment import EnrolmentServicer
from coordinator.api.operator import OperatorPorts, OperatorServicer
from coordinator.api.site import SiteServicer
from coordinator.api.transfer import TransferServicer
from coordinator.config import CoordinatorFile, DataFolder
from coordinator.data_lock import hold_data_folder
from coordinator.enrolment.pki import Pki, load_pki
from coordinator.enrolment.registry import Registry
from coordinator.evaluation.pool import ModelWorker
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.outbox import Outbox
from coordinator.fleet.presence import Patience
from coordinator.jobs.workshop import LocalWorkshop
from coordinator.metrics.catalog import Catalog
from coordinator.metrics.census import Census, Expiries
from coordinator.metrics.disk import DiskUse
from coordinator.metrics.http import HttpContent, HttpServer
from coordinator.metrics.rounds import CatalogRoundMetrics
from coordinator.metrics.status_page import STYLESHEET
from coordinator.rounds.conductor import Conductor
from coordinator.rounds.job_runner import RETURN_S
from coordinator.rounds.services import Services
from coordinator.rounds.signing import Signatory
from coordinator.rounds.timers import LoopTimers
from coordinator.storage import open_blobs, records_place
from coordinator.store.blobs.base import OwnedBlobs
from coordinator.store.retention import Retention
from coordinator.store.sql.store import SqlStore, open_store
from coordinator.store.staging import Staging
from ravan.clock import SystemClock
from ravan.heap import give_back_at_once, share_arenas
from ravan.identity.certificates import Caller
from ravan.identity.join import CoordinatorAddress
from ravan.ids import Digest
from ravan.logs import set_up_logs
from ravan.rpc.addresses import target_of
from ravan.rpc.guard import ENROLMENT_PORT, SITE_PORT, GuardPolicy
from ravan.rpc.server import Binding, Health, bind_port, build_server
from ravan.rpc.tls import mutual_tls, server_tls
from ravan.version import VERSION
from ravan.wire.v1 import (
    enrolment_service_pb2_grpc,
    operator_service_pb2_grpc,
    site_service_pb2_grpc,
    transfer_service_pb2_grpc,
)

log = structlog.stdlib.get_logger(__name__)

HEAPS = 2
"""From which all threads take their memory."""

SWITCH_S = 0.001
"""How long a thread that computes keeps others from the interpreter, heartbeats too; by default five times it."""

GRACE_S = 3.0
"""How long calls in progress may go on after the daemon was told to stop."""


def run_daemon(config: CoordinatorFile) -> None:
    """Run until SIGTERM or SIGINT; raise RavanError when the daemon cannot start."""
    os.umask(0o077)
    give_back_at_once()
    share_arenas(HEAPS)
    sys.setswitchinterval(SWITCH_S)
    set_up_logs(config.log)
    folder = DataFolder(config.server.data_dir)
    with hold_data_folder(folder):
        asyncio.run(_serve(config))


async def _serve(config: CoordinatorFile) -> None:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    catalog = Catalog()
    store = await asyncio.to_thread(open_store, records_place(config), catalog.note_transaction)
    try:
        stores = Stores(
            records=store,
            blobs=await asyncio.to_thread(open_blobs, config),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPorts:
    """Ports that the daemon really listens on."""

    enrolment_port: int
    site_port: int
    http_port: int


class Daemon:
    """All parts of a running coordinator."""

    def __init__(self, config: CoordinatorFile, stores: Stores, catalog: Catalog) -> None:
        """Build everything and bind the ports; nothing answers yet.

        Raises ResourceError (PORT_IN_USE), IdentityError when the keys cannot be read.
        """
        self._config = config
        self._folder = folder = DataFolder(config.server.data_dir)
        self._store = store = stores.records
        self._timeline = stores.timeline
        self._catalog = catalog
        self._clock = SystemClock()
        self._pki = load_pki(folder.pki)
        self._ready = False
        self._blobs = stores.blobs
        self._staging = Staging(folder.staging)
        self._worker = ModelWorker(self._blobs, folder.work, threads=config.evaluation.threads)
        self._outbox = Outbox(store)
        self._retention = Retention(store, self._blobs, self._staging, self._clock, versions=config.retention.versions)
        patience = Patience(heartbeat_interval_s=config.fleet.heartbeat_interval_s, silence_s=config.fleet.silence_s)
        self._fleet = Fleet(store, self._outbox, patience, self._clock)
        self._conductor = Conductor(self._rounds())
        self._census = self._count(self._pki)
        self._http = self._open_http()
        self._enrolment, self._sites = self._build_servers()
        self._ports = self._bind()
        self._registry = Registry(store, self._pki, self._address(), self._clock)
        self._operators = self._serve_operators()
        self._health = self._add_services()

    async def start(self) -> None:
        """Take up what was going on, open the ports and say so."""
        self._http.start()
        await self._registry.load()
        await asyncio.to_thread(self._blobs.discard_incoming)
        expected = await self._conductor.start()
        await self._fleet.start(self._conductor, expected, RETURN_S)
        for server in (self._enrolment, self._sites):
            await server.start()
        for health in self._health:
            await health.announce_serving()
        self._retention.start()
        self._tell_ports()
        self._ready = True
        print(f"ravan-coordinator {VERSION} ready: {self._where()}", flush=True)

    async def stop(self) -> None:
        """Say that it leaves, let calls end, and stop every part in order."""
        self._ready = False
        for health in self._health:
            await health.announce_leaving()
        self._operators.close()
        await self._retention.stop()
        await self._fleet.stop()
        await asyncio.gather(self._enrolment.stop(GRACE_S), self._sites.stop(GRACE_S))
        await self._conductor.stop()
        await self._worker.close()
        await asyncio.to_thread(self._http.stop)
        self._folder.ports.unlink(missing_ok=True)

    def _rounds(self) -> Services:
        return Services(
            store=self._store,
            workshop=LocalWorkshop(self._blobs, self._worker),
            signatory=Signatory(self._pki.manifest_key),
            mailbox=self._outbox,
            uploads=self._staging,
            metrics=CatalogRoundMetrics(self._catalog, self._clock),
            timers=LoopTimers(self._clock),
            clock=self._clock,
        )

    def _count(self, pki: Pki) -> Census:
        return Census(
            self._catalog,
            self._store,
            self._fleet,
            self._clock,
            disk=DiskUse(self._folder, self._store.size_bytes),
            expiries=Expiries(ca=pki.ca_expires_at, server=pki.server_expires_at),
        )

    def _open_http(self) -> HttpServer:
        server = self._config.server
        content = HttpContent(
            registry=self._catalog.registry,
            refresh=self._census.refresh_from_thread,
            is_ready=lambda: self._ready,
            status_page=self._census.render_from_thread,
            stylesheet=STYLESHEET,
        )
        return HttpServer(content, host=server.http_listen, port=server.http_port, names=server.hosts)

    def _build_servers(self) -> tuple[aio.Server, aio.Server]:
        enrolment, sites = (
            GuardPolicy(
                access=access,
                is_revoked=self._is_revoked,
                on_call=self._catalog.note_call,
                on_refusal=self._catalog.note_refusal,
            )
            for access in (ENROLMENT_PORT, SITE_PORT)
        )
        return build_server(enrolment), build_server(sites)

    def _bind(self) -> BoundPorts:
        server, pki = self._config.server, self._pki
        enrolment = Binding(host=server.listen, port=server.enrolment_port, config_key="server.enrolment_port")
        sites = Binding(host=server.listen, port=server.site_port, config_key="server.site_port")
        tls = server_tls(key=pki.server_key, certificate=pki.server_certificate)
        mutual = mutual_tls(key=pki.server_key, certificate=pki.server_certificate, ca_certificate=pki.ca_pem)
        return BoundPorts(
            enrolment_port=bind_port(self._enrolment, enrolment, tls),
            site_port=bind_port(self._sites, sites, mutual),
            http_port=self._http.port,
        )

    def _address(self) -> CoordinatorAddress:
        return CoordinatorAddress(
            host=self._config.server.hosts[0],
            enrolment_port=self._ports.enrolment_port,
            site_port=self._ports.site_port,
        )

    def _serve_operators(self) -> OperatorServicer:
        return OperatorServicer(
            OperatorPorts(
                registry=self._registry,
                fleet=self._fleet,
                store=self._store,
                blobs=self._blobs,
                jobs=self._conductor,
                clock=self._clock,
            )
        )

    def _add_services(self) -> tuple[Health, Health]:
        site = SiteServicer(
            self._fleet,
            self._conductor,
            self._clock,
            heartbeat_interval_s=self._config.fleet.heartbeat_interval_s,
            timeline=self._timeline,
            on_heartbeat=self._catalog.heartbeats.inc,
        )
        transfer = TransferServicer(
            blobs=self._blobs,
            staging=self._staging,
            uploads=self._conductor,
            basis=self._draw_basis,
            may_download=self._conductor.may_download,
            on_bytes=_ignore_bytes,
        )
        enrolment = EnrolmentServicer(self._registry, self._pki)
        enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment, self._enrolment)
        site_service_pb2_grpc.add_SiteServiceServicer_to_server(site, self._sites)
        transfer_service_pb2_grpc.add_TransferServiceServicer_to_server(transfer, self._sites)
        operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(self._operators, self._sites)
        health = Health(tuple(ENROLMENT_PORT)), Health(tuple(SITE_PORT))
        health[0].add_to(self._enrolment)
        health[1].add_to(self._sites)
        return health

    def _is_revoked(self, caller: Caller) -> bool:
        return self._registry.is_revoked(caller)  # the registry is made once the ports are known

    def _draw_basis(self, digest: Digest) -> bytes | None:
        from coordinator.jobs.submission import basis_blob  # noqa: PLC0415 - it draws numbers

        for plan in self._conductor.plans():
            basis = basis_blob(plan, digest)
            if basis is not None:
                self._catalog.basis_downloads.inc()
                return basis
        return None

    def _tell_ports(self) -> None:
        """Show the ports on the status page, and to this machine's commands when the system chose them."""
        listen, ports = self._config.server.listen, self._ports
        self._census.addresses = (
            ("enrolment", target_of(listen, ports.enrolment_port)),
            ("agents", target_of(listen, ports.site_port)),
            ("http", f"http://{target_of(self._config.server.http_listen, ports.http_port)}"),
        )
        content = {"pid": os.getpid(), "started_at": time.time(), **_port_numbers(ports)}
        self._folder.ports.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _where(self) -> str:
        return ", ".join(f"{name} {address}" for name, address in self._census.addresses)


def _ignore_bytes(count: int) -> None:
    """Count nothing: the conductor counts vectors that arrived whole, once each."""


def _port_numbers(ports: BoundPorts) -> dict[str, int]:
    return {"enrolment_port": ports.enrolment_port, "site_port": ports.site_port, "http_port": ports.http_port}
