"""Fleets for the tests of allocation: sites by memory limit and by what a job costs them."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from coordinator.allocation.policy import DEADLINE_SHARE, MEMORY_MARGIN, Budget, SiteCapacity
from ravan.ids import Digest
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

BUDGET: Final = Budget(steps=10, training_deadline_s=1800.0)
MB = 1 << 20


def capacity(
    limit_mb: float,
    *,
    loaded_mb: int = 400,
    floor_mb: int = 50,
    per_matrix_mb: int = 20,
    floor_s: float = 0.1,
    per_matrix_s: float = 0.02,
) -> SiteCapacity:
    hardware = HardwareProfile(
        cores=2,
        ram_total_bytes=8192 * MB,
        ram_limit_bytes=int(limit_mb * MB),
        ram_limit_source=LimitSource.CGROUP,
        disk_free_bytes=1 << 40,
        aes_instructions=True,
        cpu_capability="AVX2",
        agent_version="0.1.0",
    )
    job = JobProfile(
        plan_digest=Digest(bytes(32)),
        ram_loaded_bytes=loaded_mb * MB,
        ram_floor_bytes=floor_mb * MB,
        ram_per_matrix_bytes=per_matrix_mb * MB,
        step_floor_s=floor_s,
        step_per_matrix_s=per_matrix_s,
    )
    return SiteCapacity(hardware=hardware, job=job)


capacities = st.builds(
    capacity,
    st.floats(100, 4000),
    loaded_mb=st.integers(100, 1000),
    floor_mb=st.integers(1, 300),
    per_matrix_mb=st.integers(0, 200),
    floor_s=st.floats(0.001, 200),
    per_matrix_s=st.floats(0, 50),
)


def fits(site: SiteCapacity, matrices: int, budget: Budget = BUDGET) -> bool:
    """Tell whether a site can train the top `matrices`: the two conditions, written a second time."""
    job = site.job
    memory = job.ram_loaded_bytes + job.ram_floor_bytes + job.ram_per_matrix_bytes * matrices
    seconds = budget.steps * (job.step_floor_s + job.step_per_matrix_s * matrices)
    in_time = seconds / DEADLINE_SHARE <= budget.training_deadline_s
    return memory * MEMORY_MARGIN <= site.hardware.ram_limit_bytes and in_time
