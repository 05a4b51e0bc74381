"""How much of the adapter each client can train: a quarter, a half, three quarters or all of it (paper, section 5.4).

The paper shows its three mixes as bars without numbers; the proportions here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import numpy as np

SHARES: Final = (0.25, 0.5, 0.75, 1.0)


class Capacities(StrEnum):
    """How the clients' capacities are distributed."""

    EQUAL = "equal"
    """Everybody can train everything."""
    UNIFORM = "uniform"
    BELL = "bell"
    SKEWED = "skewed"
    """Most can train little."""


_MIX: Final[Mapping[Capacities, tuple[int, int, int, int]]] = {
    Capacities.EQUAL: (0, 0, 0, 20),
    Capacities.UNIFORM: (5, 5, 5, 5),
    Capacities.BELL: (3, 7, 7, 3),
    Capacities.SKEWED: (10, 5, 3, 2),
}
"""Of twenty clients: whole numbers, so that equal remainders are equal."""

_WHOLE: Final = 20


def deal_capacities(kind: Capacities, clients: int, generator: np.random.Generator) -> tuple[float, ...]:
    """Return each client's share in a random order.

    Counts are the mix's by largest remainder, of equal ones the smaller share first.
    """
    counts, remainders = np.divmod(np.asarray(_MIX[kind]) * clients, _WHOLE)
    order = np.argsort(-remainders, kind="stable")
    counts[order[: clients - int(counts.sum())]] += 1
    return tuple(float(share) for share in generator.permutation(np.repeat(SHARES, counts)))
