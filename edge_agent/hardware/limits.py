"""The tightest memory limit that holds for the agent; any of them may change while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.hardware.memory import resident_bytes
from ravan.manifest.profile import LimitSource

_UNLIMITED: Final = 1 << 60
"""Larger figures mean no limit: control groups of version 1 write the largest page count there is."""

_NEAR: Final = 2
"""Memory is short for others once less than so many times their due is available."""
_PRESSED_STEP: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """A limit and who set it."""

    limit_bytes: int
    source: LimitSource


def soft_resource_limits() -> Iterator[int]:
    """Yield the soft limits on private memory and on address space of this process, in bytes."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Unix only

    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


class LimitReader:
    """Read the limit anew each time it is asked for."""

    def __init__(
        self,
        *,
        configured_mb: int = 0,
        keep_free_mb: int = 0,
        proc: Path = Path("/proc"),
        sys_fs: Path = Path("/sys"),
        resource_limits: Callable[[], Iterator[int]] = soft_resource_limits,
        held_bytes: Callable[[], int] = resident_bytes,
    ) -> None:
        """Take the configured limit and what others are to have (MiB, 0 for none), and where the kernel's files are."""
        self._configured = configured_mb << 20
        self._keep_free = keep_free_mb << 20
        self._proc = proc
        self._cgroups = sys_fs / "fs" / "cgroup"
        self._resource_limits = resource_limits
        self.held_bytes = held_bytes
        """Tells what the agent holds now, in all of its processes."""

    def total_bytes(self) -> int:
        """Return the machine's physical memory."""
        return self._memory_bytes("MemTotal", "total")

    def available_bytes(self) -> int:
        """Return what programs could still take without others being swapped out."""
        return self._memory_bytes("MemAvailable", "available")

    def _memory_bytes(self, kernel_name: str, psutil_name: str) -> int:
        for line in _lines(self._proc / "meminfo"):
            name, _, rest = line.partition(":")
            if name == kernel_name:
                return int(rest.split()[0]) << 10
        import psutil  # noqa: PLC0415 - only where there is no /proc

        return int(getattr(psutil.virtual_memory(), psutil_name))

    def read(self) -> MemoryLimit:
        """Return the tightest of machine, configuration, control groups and resource limits."""
        limits = [(self.total_bytes(), LimitSource.MACHINE)]
        if self._configured:
            limits.append((self._configured, LimitSource.CONFIG))
        limits += [(limit, LimitSource.MACHINE) for limit in self._pressed_limits()]
        limits += [(limit, LimitSource.CGROUP) for limit in self._cgroup_limits()]
        limits += [(limit, LimitSource.RLIMIT) for limit in self._resource_limits() if limit > 0]
        limit_bytes, source = min(limits, key=lambda each: each[0])
        return MemoryLimit(limit_bytes=limit_bytes, source=source)

    @property
    def is_pressed(self) -> bool:
        """Tell whether other programs leave less memory than they are to have."""
        return any(self._pressed_limits())

    def leaves_room_for(self, needed_bytes: int) -> bool:
        """Tell whether the agent may hold so much in all, with what other programs hold now and are to have."""
        return not self.is_pressed and self.held_bytes() + self.available_bytes() - self._keep_free >= needed_bytes

    def _pressed_limits(self) -> Iterator[int]:
        """Yield what the agent may hold where the rest is about to become too little for others."""
        if self._keep_free and (available := self.available_bytes()) < _NEAR * self._keep_free:
            left = self.held_bytes() + available - self._keep_free
            # In coarse steps, since every change is reported.
            yield max(_PRESSED_STEP, left - left % _PRESSED_STEP)

    def _cgroup_limits(self) -> Iterator[int]:
        """Yield the limits of this process's groups and of all groups around them."""
        for line in _lines(self._proc / "self" / "cgroup"):
            number, controllers, path = (*line.split(":", 2), "", "")[:3]
            if number == "0" and not controllers:
                yield from _limits_along(self._cgroups, path, "memory.max")
            elif "memory" in controllers.split(","):
                yield from _limits_along(self._cgroups / "memory", path, "memory.limit_in_bytes")


def _limits_along(root: Path, path: str, name: str) -> Iterator[int]:
    # Inside a container the path is the host's, and the container's own group is mounted at the root.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        for line in _lines(root.joinpath(*parts[:depth], name)):
            if line.isdigit() and 0 < int(line) < _UNLIMITED:
                yield int(line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
