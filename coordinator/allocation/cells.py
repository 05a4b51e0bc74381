"""Classes of the weighted profile: sites that train equally far down, each class large enough for a cell. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ravan.ids import SiteId
from ravan.manifest.assignment import MAX_GROUP

EXPECTED_LOSS: Final = 0.1
"""Share of sites that a cell is prepared to lose."""

FAILURE_CHANCE: Final = 1e-3
"""How often a cell may lose more and be withheld."""


def least_cell(threshold: int) -> int:
    """Return how many sites a cell needs so that fewer than `threshold` are left once in a thousand rounds.

    At most 32, the largest `cell_minimum` there is.
    """
    sizes = range(threshold, MAX_GROUP // 4)
    return next((size for size in sizes if _chance_below(threshold, size) <= FAILURE_CHANCE), MAX_GROUP // 4)


def join_classes(depth_of: Mapping[SiteId, int], cell_minimum: int) -> dict[SiteId, int]:
    """Return depths in which every class (sites of equal depth) has at least `cell_minimum` sites.

    A class that is too small trains what the next weaker one does too, and the weakest, which cannot do more, draws the
    next stronger one down. With fewer than `cell_minimum` sites in all, one class is left that is too small.
    """
    classes: dict[int, list[SiteId]] = {}
    for site, depth in depth_of.items():
        classes.setdefault(depth, []).append(site)
    ordered = sorted(classes.items())
    while len(ordered) > 1:
        small = next((i for i in reversed(range(len(ordered))) if len(ordered[i][1]) < cell_minimum), None)
        if small is None:
            break
        # The weakest class has no weaker one to join; the one above it joins instead.
        upper = max(small, 1)
        _, stronger = ordered.pop(upper)
        depth, weaker = ordered[upper - 1]
        ordered[upper - 1] = (depth, weaker + stronger)
    return {site: depth for depth, sites in ordered for site in sites}


def _chance_below(threshold: int, size: int) -> float:
    """Return P[Binomial(size, 1 - EXPECTED_LOSS) < threshold]."""
    keep = 1 - EXPECTED_LOSS
    return sum(math.comb(size, k) * keep**k * EXPECTED_LOSS ** (size - k) for k in range(threshold))
