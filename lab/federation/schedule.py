"""Who trains in which round, and on which batches: drawn from the seed alone, so that methods can be paired."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a draw is for; keeps draws apart."""

    PARTITION = 1
    CAPACITY = 2
    COHORT = 3
    BATCHES = 4
    ADAPTER = 5
    ROUNDING = 6
    SKETCH = 7


def generator_for(seed: int, purpose: Purpose, *parts: int) -> np.random.Generator:
    """Return the generator of one draw."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *parts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run's cohorts and batches."""

    seed: int
    clients: int
    per_round: int

    def cohort(self, round_number: int) -> tuple[int, ...]:
        """Return who trains, ascending."""
        draw = generator_for(self.seed, Purpose.COHORT, round_number)
        return tuple(sorted(draw.choice(self.clients, self.per_round, replace=False).tolist()))

    def batch_seed(self, client: int, round_number: int) -> int:
        """Return the seed of the order in which a client deals its examples in a round."""
        return int(generator_for(self.seed, Purpose.BATCHES, client, round_number).integers(1 << 62))
