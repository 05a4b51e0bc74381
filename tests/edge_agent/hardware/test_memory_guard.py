"""Training that goes over the limit of the moment is given up, and so is one whose allocations fail."""

from __future__ import annotations

import pytest

from edge_agent.hardware.guard import MemoryGuard, OutgrownError
from edge_agent.hardware.limits import LimitReader, MemoryLimit
from ravan.errors import ErrorReason, ResourceError
from ravan.manifest.profile import LimitSource

MIB = 1 << 20


class Limits(LimitReader):
    """A limit that a test moves."""

    def __init__(self, limit_bytes: int, *, pressed: bool = False) -> None:
        super().__init__()
        self.pressed = pressed
        self.limit_bytes = limit_bytes

    def read(self) -> MemoryLimit:
        return MemoryLimit(limit_bytes=self.limit_bytes, source=LimitSource.CGROUP)

    @property
    def is_pressed(self) -> bool:
        return self.pressed


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


def test_memory_that_other_programs_need_says_nothing_of_the_jobs_own_cost() -> None:
    guard = MemoryGuard(Limits(2 * MIB, pressed=True))
    with guard.watching(), pytest.raises(ResourceError) as caught:
        guard.check(MIB)
    assert not isinstance(caught.value, OutgrownError)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert "Other programs" in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")])
def test_an_allocation_that_fails_is_told_as_outgrown(error: Exception) -> None:
    with pytest.raises(OutgrownError) as caught, MemoryGuard(Limits(1 << 40)).watching():
        raise error
    assert caught.value.seen_bytes == 1 << 40


def test_another_error_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes"), MemoryGuard(Limits(1 << 40)).watching():
        raise RuntimeError("shapes differ")
