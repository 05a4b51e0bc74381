"""What the fleet knows of a site, and what it tells the rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from coordinator.store.records import SiteRecord, TokenRecord
from ravan.ids import SiteId
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import SiteState
from ravan.manifest.profile import HardwareProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """A connected site now."""

    process_id: bytes
    last_seen: float
    """Seconds since the Unix epoch."""
    hardware: HardwareProfile | None
    """Newest report; from an earlier connection until this process has reported. None before the first."""
    heartbeat: Heartbeat | None
    """Newest of this process; None before the first."""
    clock_ahead_s: float | None = None
    """How far its clock is ahead of the coordinator's, by the newest heartbeat; None where no heartbeat tells."""


class FleetListener(Protocol):
    """Whoever runs the rounds and must know who comes, goes and reports."""

    async def site_attached(self, site: SiteId, process_id: bytes) -> None:
        """A stream of this process opened; called each time, also when the process was there before."""
        ...

    async def site_lost(self, site: SiteId) -> None:
        """The site was silent for too long, or was revoked."""
        ...

    async def hardware_reported(self, site: SiteId, profile: HardwareProfile) -> None:
        """The site reported its machine; the report is stored already."""
        ...

    async def heartbeat(self, site: SiteId, heartbeat: Heartbeat) -> None:
        """The site gave a sign of life."""
        ...


def state_of(site: SiteRecord, status: SiteStatus | None) -> SiteState:
    """Return the state of an enrolled site, given its connection if it has one."""
    if site.revoked_at is not None:
        return SiteState.REVOKED
    return SiteState.OFFLINE if status is None else SiteState.ONLINE


def invited_sites(tokens: Iterable[TokenRecord], sites: Iterable[SiteRecord], now: float) -> tuple[SiteId, ...]:
    """Return the names that have a token which still holds and no enrolled site."""
    enrolled = {site.name for site in sites}
    return tuple(sorted({token.site for token in tokens if token.expires_at > now} - enrolled))
