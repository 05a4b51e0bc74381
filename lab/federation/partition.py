"""Deal a task's examples to clients.

Dirichlet label skew as in Hsu et al. 2019 (arXiv 1909.06335), drawn by class: each class's examples are divided in
proportions from Dir(alpha) over the clients.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lab.federation.shard import Rows
from ravan.errors import ConfigError, ErrorReason

LEAST_EXAMPLES: Final = 8
"""Every client has so many at least: with fewer it would not join."""

_DRAWS: Final = 1000


class Split(StrEnum):
    """How examples are dealt."""

    NATURAL = "natural"
    """As they came: by machine or group of machines."""
    IID = "iid"
    """At random, in equal parts."""
    DIRICHLET = "dirichlet"
    """Classes in unequal proportions."""
    POOLED = "pooled"
    """All to one client: training without a federation."""


def deal_natural(owners: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each owner, by ascending owner."""
    return [np.flatnonzero(owners == owner) for owner in np.unique(owners)]


def deal_evenly(count: int, clients: int, generator: np.random.Generator) -> list[Rows]:
    """Return a random division into parts whose sizes differ by at most one."""
    return [np.sort(part) for part in np.array_split(generator.permutation(count), clients)]


def deal_by_dirichlet(
    labels: NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator
) -> list[Rows]:
    """Return a division by label skew; raise ConfigError when no draw gives each client `LEAST_EXAMPLES`."""
    for _ in range(_DRAWS):
        owner = _draw_owners(labels, clients, alpha, generator)
        if np.bincount(owner, minlength=clients).min() >= LEAST_EXAMPLES:
            return [np.flatnonzero(owner == client) for client in range(clients)]
    raise ConfigError(
        f"{len(labels)} examples cannot be dealt to {clients} clients with alpha = {alpha} and {LEAST_EXAMPLES} or "
        "more for each.",
        reason=ErrorReason.CONFIG_INVALID,
        next_step="Take fewer clients or a larger alpha.",
    )


def _draw_owners(
    labels: NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, alpha))
        edges = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
        for client, part in enumerate(np.split(rows, edges)):
            owner[part] = client
    return owner
