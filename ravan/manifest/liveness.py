"""Signs of life of an agent."""

from __future__ import annotations

from dataclasses import dataclass

from ravan.manifest.phases import AgentActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What an agent is doing and what it costs its PC."""

    process_id: bytes
    """16 random bytes drawn when the agent process started."""
    activity: AgentActivity
    round_number: int = 0
    """0 means none."""
    done: int = 0
    """Steps or bytes."""
    total: int = 0
    """Steps or bytes in all; 0 means unknown."""
    rss_bytes: int = 0
    peak_rss_bytes: int = 0
    extra_peak_bytes: int = 0
    """Highest resident bytes over the loaded idle model during this round's training."""
    step_cpu_s: float = 0.0
    """Processor seconds per training step, mean of this round."""
    site_time: float = 0.0
    """Seconds since the Unix epoch by the site's clock; 0 where an older release does not tell it."""
