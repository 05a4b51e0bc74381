"""How long to wait before dialling again: growing pauses with jitter, short again once the line worked. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
_MOST_DOUBLINGS: Final = 16


class Backoff:
    """Count failures in a row and name the pause after each.

    All agents lose their line at once when the coordinator restarts, and must not come back at once. How long their
    return may take depends on how many they are, which the coordinator knows and says: `spread_s`.
    """

    def __init__(
        self, *, longest_s: float = LONGEST_S, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """Never pause longer than `longest_s`; `uniform` draws from a range."""
        self._longest_s = longest_s
        self._uniform = uniform
        self._failures = 0
        self.spread_s = 0.0
        """The least range that pauses are drawn from."""

    def succeeded(self) -> None:
        """Note that the line works."""
        self._failures = 0

    def next_pause_s(self) -> float:
        """Note a failure and return the pause: half of the bound for sure, the rest drawn."""
        bound = min(self._longest_s, FIRST_S * 2 ** min(self._failures, _MOST_DOUBLINGS))
        self._failures += 1
        return self._uniform(bound / 2, max(bound, self.spread_s))
