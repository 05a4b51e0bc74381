"""A whole coordinator in the test's own event loop, called over real mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grpc import aio

from coordinator.config import CoordinatorFile, DataFolder
from coordinator.daemon.app import Daemon, Stores
from coordinator.enrolment.pki import create_pki
from coordinator.metrics.catalog import Catalog
from coordinator.operator_client import OperatorClient, local_endpoint
from coordinator.storage import open_blobs
from coordinator.store.sql.store import open_store
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from ravan.clock import SystemClock
from ravan.rpc.channel import open_channel
from ravan.rpc.tls import enrolled_client
from ravan.wire.v1.site_service_pb2_grpc import SiteServiceStub


@dataclass
class RunningCoordinator:
    config: CoordinatorFile
    daemon: Daemon
    catalog: Catalog
    operator: OperatorClient
    folder: Path

    async def enrol(self, site: str) -> Identity:
        token = await self.operator.create_token(site)
        return await enrol(token.join_string, self.folder / f"agent-{site}")


def configure(
    folder: Path, limits: Mapping[str, float] = MappingProxyType({}), *, http_tls: str = "none"
) -> CoordinatorFile:
    return CoordinatorFile.model_validate(
        {
            "server": {
                "hosts": ("localhost",),
                "listen": "127.0.0.1",
                "enrolment_port": 0,
                "site_port": 0,
                "http_port": 0,
                "http_tls": http_tls,
                "data_dir": folder,
            },
            "fleet": {"heartbeat_interval_s": 7, "minimum_agent_version": "0.0.9"},
            "limits": limits,
        }
    )


@asynccontextmanager
async def running_coordinator(
    folder: Path, *, http_tls: str = "none", **limits: float
) -> AsyncIterator[RunningCoordinator]:
    """Run a coordinator; `limits` are keys of its `[limits]`."""
    data = DataFolder(folder / "data")
    create_pki(data.pki, ["localhost"], now=SystemClock().now())
    config, catalog = configure(data.root, limits, http_tls=http_tls), Catalog()
    store = open_store(data.database, catalog.note_transaction)
    timeline = await store.transact("read", lambda transaction: transaction.current_timeline())
    daemon = Daemon(config, Stores(records=store, blobs=open_blobs(config), timeline=timeline), catalog)
    await daemon.start()
    try:
        async with OperatorClient(local_endpoint(config, folder / "coordinator.toml")) as operator:
            yield RunningCoordinator(config, daemon, catalog, operator, folder)
    finally:
        await daemon.stop()
        await store.close()


@asynccontextmanager
async def agent_channel(identity: Identity) -> AsyncIterator[Any]:
    credentials = enrolled_client(
        key=identity.tls_key, certificate=identity.certificate, ca_certificate=identity.ca_certificate
    )
    channel: aio.Channel = open_channel("localhost", identity.address.site_port, credentials)
    try:
        yield SiteServiceStub(channel)
    finally:
        await channel.close()
