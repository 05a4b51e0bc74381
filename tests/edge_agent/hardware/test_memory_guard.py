"""What would go over the limit fails inside the process, which lives on and can use its memory again afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edge_agent.hardware.guard import MemoryGuard, OutgrownError
from edge_agent.hardware.limits import LimitReader, MemoryLimit
from ravan.errors import ErrorReason
from ravan.manifest.profile import LimitSource

MIB = 1 << 20

UNDER_A_CEILING = """
import json, resource, sys
import numpy as np
import torch
from edge_agent.hardware.ceiling import memory_ceiling, ran_out_of_memory
from edge_agent.hardware.limits import soft_resource_limits
from edge_agent.hardware.memory import give_back_at_once, resident_bytes

def failure(make):
    try:
        make()
    except Exception as error:
        kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
        return kind if ran_out_of_memory(error) else repr(error)
    return ""

MIB = 1 << 20
give_back_at_once()
if sys.argv[1] != "none":
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]) * MIB, resource.RLIM_INFINITY))
before = resource.getrlimit(resource.RLIMIT_DATA), list(soft_resource_limits())
found = {}
with memory_ceiling(resident_bytes() + 64 * MIB):
    found["reported"] = before[1] == list(soft_resource_limits())
    found["fits"] = failure(lambda: np.ones(32 * MIB, np.uint8))
    found["numpy"] = failure(lambda: np.ones(128 * MIB, np.uint8))
    found["torch"] = failure(lambda: torch.ones(128 * MIB, dtype=torch.uint8))
    if sys.argv[2:]:
        resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]) * MIB, resource.RLIM_INFINITY))
        found["set meanwhile"] = list(soft_resource_limits()) == [int(sys.argv[2]) * MIB]
found["after"] = failure(lambda: np.ones(128 * MIB, np.uint8))
found["restored"] = resource.getrlimit(resource.RLIMIT_DATA) == before[0]
print(json.dumps(found))
"""


def under_a_ceiling(*limits: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_CEILING, *limits], check=True, capture_output=True, text=True, timeout=120
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no private memory is counted")
@pytest.mark.parametrize("limit_mib", ["none", "8192"])
def test_an_allocation_over_the_ceiling_fails_and_the_limit_that_is_reported_stays(limit_mib: str) -> None:
    assert under_a_ceiling(limit_mib) == {
        "reported": True,
        "fits": "",
        "numpy": "MemoryError",
        "torch": "RuntimeError",
        "after": "",
        "restored": True,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no private memory is counted")
def test_a_limit_that_is_set_meanwhile_stays() -> None:
    found = under_a_ceiling("8192", "4096")
    assert (found["set meanwhile"], found["restored"]) == (True, False)


class Limits(LimitReader):
    """A limit that a test moves."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    def read(self) -> MemoryLimit:
        return MemoryLimit(limit_bytes=self.limit_bytes, source=LimitSource.CGROUP)


def test_a_limit_that_comes_down_while_training_is_noticed() -> None:
    limits = Limits(1 << 40)
    guard = MemoryGuard(limits)
    with guard.watching():
        guard.check(MIB)
        limits.limit_bytes = 2 * MIB
        with pytest.raises(OutgrownError) as caught:
            guard.check(MIB)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert caught.value.seen_bytes > 2 * MIB
    assert "limit is 2 MiB" in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")])
def test_an_allocation_that_fails_is_told_as_outgrown(error: Exception) -> None:
    with pytest.raises(OutgrownError) as caught, MemoryGuard(Limits(1 << 40)).watching():
        raise error
    assert caught.value.seen_bytes == 1 << 40


def test_another_error_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes"), MemoryGuard(Limits(1 << 40)).watching():
        raise RuntimeError("shapes differ")
