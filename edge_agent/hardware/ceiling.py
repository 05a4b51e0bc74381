"""A ceiling at the memory limit: what would go over it fails inside the agent, before the kernel ends the agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_agent.hardware.memory import private_bytes, release_unused, resident_bytes


@contextmanager
def memory_ceiling(limit_bytes: int) -> Iterator[None]:
    """Have allocations fail in the block that would take the process over `limit_bytes`; see `ran_out_of_memory`.

    Only Linux counts private memory as it is asked for; elsewhere nothing is done. A lower limit that holds already
    stays, and one that somebody sets meanwhile does too. Not for two blocks at once.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 - Unix only

    release_unused()
    soft, hard = before = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = private_bytes() + max(0, limit_bytes - resident_bytes())
    if soft != resource.RLIM_INFINITY and soft <= ceiling:
        yield
        return
    _replaced[ceiling] = soft
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    try:
        yield
    finally:
        if resource.getrlimit(resource.RLIMIT_DATA)[0] == ceiling:
            resource.setrlimit(resource.RLIMIT_DATA, before)
        _replaced.clear()


def without_ceiling(soft: int) -> int:
    """Return the limit on private memory that others set, where `soft` is this module's."""
    return _replaced.get(soft, soft)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed: MemoryError in Python, RuntimeError with its own text in torch."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


_replaced: dict[int, int] = {}
"""The ceiling that stands, and the soft limit that it stands in for."""
