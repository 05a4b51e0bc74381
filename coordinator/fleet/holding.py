"""Which sites are held back since their agents are too old, and how that is said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ravan.ids import SiteId
from ravan.manifest.phases import HoldReason
from ravan.manifest.profile import HardwareProfile
from ravan.releases import is_older


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a site takes no part."""

    reason: HoldReason
    version: str
    """What the agent tells of itself; empty where it tells nothing."""
    minimum: str
    """Oldest version that takes part."""

    def __str__(self) -> str:
        """Return what the site lacks, to follow on its name."""
        if self.reason is HoldReason.UNKNOWN_VERSION:
            return f"held back: its agent tells no version, and {self.minimum} is the oldest that takes part"
        return f"held back: its agent is {self.version}, older than {self.minimum}"


def find_hold(hardware: HardwareProfile, *minimums: str) -> Hold | None:
    """Return why a site is held back by the newest report of its machine; an empty minimum holds nobody back."""
    for minimum in minimums:
        if is_older(hardware.agent_version, minimum):
            told = hardware.agent_version
            reason = HoldReason.OUTDATED if told else HoldReason.UNKNOWN_VERSION
            return Hold(reason=reason, version=told, minimum=minimum)
    return None


def describe_holds(holds: Mapping[SiteId, Hold]) -> str:
    """Return sentences on who is held back; empty where nobody is."""
    return " ".join(f"{site} is {hold}." for site, hold in sorted(holds.items()))
