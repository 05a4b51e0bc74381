"""Which simulated agents lose their power in which round, and where in it. Pure; follows from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from simulation.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOuts:
    """How often agents drop out."""

    rate: float = 0.0
    """Share of the agents that lose their power once in a round, 0 to 1."""
    steps: tuple[Step, ...] = tuple(Step)
    """Where they may lose it; each as likely as the others."""
    rounds: tuple[int, ...] = ()
    """Numbers of the rounds in which this happens; empty means all."""
    sites: tuple[str, ...] = ()
    """Names of those that this may happen to; empty means all."""
    seed: int = 0

    def step_of(self, site: str, round_number: int) -> Step | None:
        """Return where this site is cut off in this round; None where it is not."""
        if (self.rounds and round_number not in self.rounds) or (self.sites and site not in self.sites):
            return None
        draw = random.Random(f"{self.seed}/{site}/{round_number}")  # noqa: S311 - a simulation that can be repeated
        return draw.choice(self.steps) if draw.random() < self.rate else None
