"""Time as an argument: the system's clock in processes, a manual one in tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tell the time to whoever was handed this clock."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        ...


class SystemClock:
    """Read the machine's clock."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()


@dataclass(slots=True)
class ManualClock:
    """Stand still until told to move; for tests."""

    time: float = 1_700_000_000.0

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.time += seconds
