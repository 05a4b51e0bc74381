"""How the connected sites fare, from their newest heartbeats and profiles: sites behind NAT cannot be scraped. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from coordinator.fleet.status import SiteStatus
from ravan.manifest.phases import AgentActivity
from ravan.releases import is_older, parse_release


class Release(StrEnum):
    """A site's release beside the coordinator's."""

    SAME = "same"
    OLDER = "older"
    NEWER = "newer"
    UNKNOWN = "unknown"
    """It tells no version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHealth:
    """One value for each connected site that tells it."""

    resident_bytes: tuple[int, ...]
    memory_ratios: tuple[float, ...]
    """Highest resident memory as a part of the limit."""
    disk_free_bytes: tuple[int, ...]
    step_cpu_s: tuple[float, ...]
    silences_s: tuple[float, ...]
    clock_skews_s: tuple[float, ...]
    """How far clocks differ, ahead or behind."""
    activities: Counter[AgentActivity]
    releases: Counter[Release]


def measure_fleet(sites: Iterable[SiteStatus], now: float, version: str) -> FleetHealth:
    """Gather what the sites tell at a time, seconds since the Unix epoch; `version` is the coordinator's."""
    known = tuple(sites)
    beats = tuple(site.heartbeat for site in known if site.heartbeat is not None)
    machines = tuple(site.hardware for site in known if site.hardware is not None)
    return FleetHealth(
        resident_bytes=tuple(beat.rss_bytes for beat in beats if beat.rss_bytes),
        memory_ratios=tuple(
            site.heartbeat.peak_rss_bytes / site.hardware.ram_limit_bytes
            for site in known
            if site.heartbeat is not None and site.hardware is not None and site.hardware.ram_limit_bytes
        ),
        disk_free_bytes=tuple(machine.disk_free_bytes for machine in machines),
        step_cpu_s=tuple(beat.step_cpu_s for beat in beats if beat.step_cpu_s),
        silences_s=tuple(max(0.0, now - site.last_seen) for site in known),
        clock_skews_s=tuple(abs(site.clock_ahead_s) for site in known if site.clock_ahead_s is not None),
        activities=Counter(beat.activity for beat in beats),
        releases=Counter(
            compare_release("" if site.hardware is None else site.hardware.agent_version, version) for site in known
        ),
    )


def compare_release(theirs: str, ours: str) -> Release:
    """Tell how a site's release stands to the coordinator's."""
    if parse_release(theirs) is None:
        return Release.UNKNOWN
    if is_older(theirs, ours):
        return Release.OLDER
    return Release.NEWER if is_older(ours, theirs) else Release.SAME
