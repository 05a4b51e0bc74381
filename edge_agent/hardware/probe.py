"""What the PC has, as it is reported to the coordinator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edge_agent.hardware.limits import LimitReader
from edge_agent.storage.share import DiskShare
from ravan.manifest.profile import HardwareProfile
from ravan.version import VERSION

_CPU_INFO: Final = Path("/proc/cpuinfo")

_CAPABILITIES: Final = {
    "AVX512": frozenset({"avx512vl", "avx512bw", "avx512dq", "fma"}),
    "AVX2": frozenset({"avx2", "fma"}),
}


class HardwareProbe:
    """Look at the machine; what cannot change is looked at once."""

    def __init__(self, limits: LimitReader, disk: DiskShare, cpu_info: Path = _CPU_INFO) -> None:
        """Take the limits, the agent's share of the disk, and the kernel's description of the processor."""
        self._limits = limits
        self._disk = disk
        flags = _cpu_flags(cpu_info)
        self._aes = "aes" in flags
        self._capability = cpu_capability(flags)

    def read(self) -> HardwareProfile:
        """Return the profile of now."""
        limit = self._limits.read()
        return HardwareProfile(
            cores=usable_cores(),
            ram_total_bytes=self._limits.total_bytes(),
            ram_limit_bytes=limit.limit_bytes,
            ram_limit_source=limit.source,
            disk_free_bytes=self._disk.free_bytes(),
            aes_instructions=self._aes,
            cpu_capability=self._capability,
            agent_version=VERSION,
        )


def usable_cores() -> int:
    """Return the number of logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def training_threads(configured: int) -> int:
    """Return how many threads to train with: as configured, or half of the cores for 0."""
    return configured or max(1, usable_cores() // 2)


def cpu_capability(flags: frozenset[str]) -> str:
    """Return the instruction set that torch dispatches to by the processor's flags; empty where there are none.

    The agent's own process does without torch. The conditions are those of torch's `DispatchStub.cpp`.
    """
    if not flags:
        return ""
    return next((name for name, needed in _CAPABILITIES.items() if needed <= flags), "DEFAULT")


def _cpu_flags(cpu_info: Path) -> frozenset[str]:
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    # x86 says "flags", ARM "Features"
    wanted = (line.partition(":") for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(flag for _, _, flags in wanted for flag in flags.split())
