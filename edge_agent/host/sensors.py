"""What this PC shows of itself, read by psutil; what it cannot tell stands for no reason to pause."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import psutil

from edge_agent.host.verdict import Readings

_IDLE: Final = ("idle", "iowait")
"""Times of the processor in which it could do something else."""


class HostSensors:
    """Read the PC; the processor's share is that of the time since the reading before."""

    def __init__(self, worker_pid: Callable[[], int | None] = lambda: None) -> None:
        """Take what tells the agent's other process, if there is one."""
        self._worker_pid = worker_pid
        self._own = psutil.Process(os.getpid())
        self._before = self._times()

    def read(self) -> Readings:
        """Return what it shows now; takes about a millisecond."""
        before, self._before = self._before, self._times()
        total, busy, own = (max(0.0, new - old) for new, old in zip(self._before, before, strict=True))
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
        return Readings(
            moment=datetime.now(),
            on_battery=battery is not None and battery.power_plugged is False,
            celsius=_hottest(),
            busy_share=min(1.0, max(0.0, (busy - own) / total)) if total > 0 else 0.0,
        )

    def _times(self) -> tuple[float, float, float]:
        """Return seconds of all cores together: in all, busy, and of the agent."""
        times = psutil.cpu_times()
        # Guests' time is part of the user's already.
        parts = {name: value for name, value in times._asdict().items() if not name.startswith("guest")}
        total = sum(parts.values())
        busy = total - sum(parts.get(name, 0.0) for name in _IDLE)
        return total, busy, agent_seconds(self._own, self._worker_pid())


def agent_seconds(own: psutil.Process, worker_pid: int | None) -> float:
    """Return the processor's seconds of the agent so far; they grow over the end of a worker and the start of the next.

    What a process took that has ended counts with the one that started it. Windows does not say.
    """
    times = own.cpu_times()
    seconds = float(times.user + times.system + times.children_user + times.children_system)
    with suppress(psutil.Error):
        if worker_pid is not None:
            worker = psutil.Process(worker_pid).cpu_times()
            seconds += worker.user + worker.system
    return seconds


def _hottest() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    try:
        found = psutil.sensors_temperatures()
    except (OSError, ValueError):
        return None
    shown = [each.current for sensors in found.values() for each in sensors]
    return max(shown, default=None)
