"""Allotments of the weighted profile: classes of sites with equal tiles, each large enough for a cell. Pure."""

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

Tiles = tuple[int, ...]


def least_cell(threshold: int) -> int:
    """Return how many sites a cell needs so that fewer than `threshold` are left once in a thousand rounds.

    At most 32, the largest `cell_minimum` there is.
    """
    sizes = range(threshold, MAX_GROUP // 4)
    return next((size for size in sizes if _chance_below(threshold, size) <= FAILURE_CHANCE), MAX_GROUP // 4)


def join_classes(tiles_of: Mapping[SiteId, Tiles], cell_minimum: int) -> dict[SiteId, Tiles]:
    """Return allotments in which every class (sites with equal tiles) has at least `cell_minimum` sites.

    A class that is too small trains what the next weaker one does too, and the weakest, which cannot do more, draws the
    next stronger one down. With fewer than `cell_minimum` sites in all, one class is left that is too small.
    """
    classes: dict[Tiles, list[SiteId]] = {}
    for site, tiles in tiles_of.items():
        classes.setdefault(tiles, []).append(site)
    ordered = [(tiles, classes[tiles]) for tiles in sorted(classes, key=lambda tiles: (len(tiles), tiles))]
    while len(ordered) > 1:
        small = next((i for i in reversed(range(len(ordered))) if len(ordered[i][1]) < cell_minimum), None)
        if small is None:
            break
        # The weakest class has no weaker one to join; the one above it joins instead.
        upper = max(small, 1)
        stronger = ordered.pop(upper)
        weaker = ordered[upper - 1]
        common = tuple(sorted(set(weaker[0]).intersection(stronger[0])))
        ordered[upper - 1] = (common, weaker[1] + stronger[1])
    return {site: tiles for tiles, sites in ordered for site in sites}


def _chance_below(threshold: int, size: int) -> float:
    """Return P[Binomial(size, 1 - EXPECTED_LOSS) < threshold]."""
    keep = 1 - EXPECTED_LOSS
    return sum(math.comb(size, k) * keep**k * EXPECTED_LOSS ** (size - k) for k in range(threshold))
