"""Records and listeners for tests of the fleet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from coordinator.store.base import Transaction
from coordinator.store.records import SiteRecord
from coordinator.store.sql.store import SqlStore
from ravan.ids import SiteId
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile, LimitSource

MACHINE = HardwareProfile(
    cores=2,
    ram_total_bytes=8 << 30,
    ram_limit_bytes=1 << 30,
    ram_limit_source=LimitSource.CONFIG,
    disk_free_bytes=1 << 34,
    aes_instructions=True,
    cpu_capability="AVX2",
    agent_version="0.1.0",
)


def enrolled(name: SiteId, serial: str = "1f") -> SiteRecord:
    return SiteRecord(
        name=name,
        identity_key=name.encode().ljust(32, b"."),
        certificate_pem=b"pem",
        certificate_serial=serial,
        certificate_expires_at=1_800_000_000.0,
        enrolled_at=1_700_000_000.0,
    )


async def add_sites(store: SqlStore, *names: SiteId) -> None:
    def work(transaction: Transaction) -> None:
        for number, name in enumerate(names):
            transaction.put_site(enrolled(name, f"{number:x}"))

    await store.transact("add_sites", work)


@dataclass
class Listener:
    """Write down what the fleet tells, and let tests wait for it."""

    told: list[tuple[str, SiteId]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def _note(self, what: str, site: SiteId) -> None:
        self.told.append((what, site))
        self.changed.set()

    async def site_attached(self, site: SiteId, process_id: bytes) -> None:
        self._note("attached", site)

    async def site_lost(self, site: SiteId) -> None:
        self._note("lost", site)

    async def hardware_reported(self, site: SiteId, profile: HardwareProfile) -> None:
        self._note("hardware", site)

    async def heartbeat(self, site: SiteId, heartbeat: Heartbeat) -> None:
        self._note("heartbeat", site)

    async def wait_for(self, what: str, site: SiteId) -> None:
        while (what, site) not in self.told:
            self.changed.clear()
            await self.changed.wait()
