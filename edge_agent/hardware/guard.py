"""Give a round's training up where it takes more memory than predicted, and more than the limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import release_unused
from ravan.errors import ErrorReason, ResourceError


class OutgrownError(ResourceError):
    """Training took more than was predicted, and more than the limit."""

    def __init__(self, seen_bytes: int, limit_bytes: int) -> None:
        """Take the least resident memory that it would have needed."""
        super().__init__(
            f"Training needs more than {seen_bytes >> 20} MiB and was given up: this agent's limit is"
            f" {limit_bytes >> 20} MiB.",
            reason=ErrorReason.MEMORY_LIMIT,
            next_step="Nothing to do: the next round asks for less. To train more, raise the limit.",
        )
        self.seen_bytes = seen_bytes
        self.limit_bytes = limit_bytes

    def __reduce__(self) -> tuple[object, ...]:
        # It comes out of the worker process.
        return OutgrownError, (self.seen_bytes, self.limit_bytes)


class MemoryGuard:
    """Watch over one training; the limit is read anew at each look."""

    def __init__(self, limits: LimitReader) -> None:
        self._limits = limits
        self._idle_bytes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raise OutgrownError where an allocation in the block fails, as under a limit that a person set by ulimit."""
        release_unused()
        self._idle_bytes = self._limits.held_bytes()
        try:
            yield
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            limit = self._limits.read().limit_bytes
            raise OutgrownError(limit, limit) from error

    def check(self, extra_peak_bytes: int) -> None:
        """Raise OutgrownError where the peak so far, over what was resident before, is over the limit of now."""
        seen, limit = self._idle_bytes + extra_peak_bytes, self._limits.read().limit_bytes
        if seen <= limit:
            return
        if self._limits.is_pressed:
            raise ResourceError(
                f"Other programs on this PC need memory, and training, which holds {seen >> 20} MiB, was given up.",
                reason=ErrorReason.MEMORY_LIMIT,
                next_step="Nothing to do: the next round asks for less. `keep_free_mb` in [host] says what others get.",
            )
        raise OutgrownError(seen, limit)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed: MemoryError in Python, RuntimeError with its own text in torch."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)
