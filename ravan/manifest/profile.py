"""What a site reports about its machine, and about one job's cost on that machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ravan.ids import Digest


class LimitSource(StrEnum):
    """Where the tightest memory limit of an agent comes from."""

    MACHINE = "machine"
    CONFIG = "config"
    CGROUP = "cgroup"
    RLIMIT = "rlimit"


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """The machine as the agent sees it; sent on connecting and whenever a limit changes."""

    cores: int
    """Logical cores that the agent may use."""
    ram_total_bytes: int
    ram_limit_bytes: int
    """Most memory that the agent process may hold: the tightest of machine, config, cgroup, rlimit."""
    ram_limit_source: LimitSource
    disk_free_bytes: int
    """Free space where the agent keeps models and rounds."""
    aes_instructions: bool
    cpu_capability: str
    """What torch dispatches to, e.g. `AVX512`."""
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProfile:
    """Cost of one job on one machine, from the model's shapes and a measurement with the job's batch shape."""

    plan_digest: Digest
    """Signed plan that was measured."""
    ram_loaded_bytes: int
    """Resident memory with the model loaded, nothing training."""
    ram_floor_bytes: int
    """Extra peak over `ram_loaded_bytes` of a step that trains the dense blocks alone."""
    ram_per_matrix_bytes: int
    """Further peak for each trained matrix, from the top."""
    step_floor_s: float
    """Seconds of a step that trains the dense blocks alone."""
    step_per_matrix_s: float
    """Further seconds for each trained matrix, from the top."""
    ram_reached_bytes: tuple[int, ...] = ()
    """Extra peak over `ram_loaded_bytes` where the top 1, 2, ... matrices train; empty where only the mean is known."""
    step_reached_s: tuple[float, ...] = ()
    """Seconds of a step that trains the top 1, 2, ... matrices; empty where only the mean is known."""

    def extra_bytes(self, matrices: int) -> int:
        """Return the peak over the loaded idle model to expect of training the top `matrices`."""
        if 0 < matrices <= len(self.ram_reached_bytes):
            return self.ram_reached_bytes[matrices - 1]
        return self.ram_floor_bytes + self.ram_per_matrix_bytes * matrices

    def peak_bytes(self, matrices: int) -> int:
        """Return the resident peak to expect of training the top `matrices`, without a margin."""
        return self.ram_loaded_bytes + self.extra_bytes(matrices)

    def step_s(self, matrices: int) -> float:
        """Return the seconds to expect of a step that trains the top `matrices`, without a margin."""
        if 0 < matrices <= len(self.step_reached_s):
            return self.step_reached_s[matrices - 1]
        return self.step_floor_s + self.step_per_matrix_s * matrices
