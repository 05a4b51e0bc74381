"""Which tiles are trained at all: those that enough of the selected sites can hold for their sum to be released. Pure.

A tile with fewer sites would cost them its steps and be withheld in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.allocation.cells import join_classes
from ravan.ids import SiteId
from ravan.manifest.assignment import Weighting


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRules:
    """How many sites must train a head for anybody to train it."""

    threshold: int
    """t_B: least survivors for a sum to be released."""
    spare: int = 0
    """Sites beyond `threshold` that a head should have, so that it bears losing so many."""
    weighting: Weighting | None = None
    """Terms of the weighted profile, which ask for whole cells."""

    @property
    def wanted(self) -> int:
        """Return the sites that a head should have."""
        return self.threshold + self.spare

    def least(self, holders: int) -> int:
        """Return the sites that a head must have where the uppermost ones have `holders`.

        Spare sites are given up before the last head is; the threshold never is.
        """
        return max(self.threshold, min(self.wanted, holders))


def settle_depths(depth_of: Mapping[SiteId, int], rules: CoverageRules) -> dict[SiteId, int]:
    """Return how far down each site trains, nowhere further than it can.

    Every tile has the least number of sites or none. In the weighted profile every class fills a cell.
    """
    settled = _cut(depth_of, rules)
    if rules.weighting is None:
        return settled
    # Joining lowers depths and may leave a tile with too few; cutting after it only makes classes larger.
    return _cut(join_classes(settled, rules.weighting.cell_minimum), rules)


def count_holders(depth_of: Mapping[SiteId, int], tile: int) -> int:
    """Return how many sites reach a tile, counted from the top."""
    return sum(depth > tile for depth in depth_of.values())


def _cut(depth_of: Mapping[SiteId, int], rules: CoverageRules) -> dict[SiteId, int]:
    least = rules.least(count_holders(depth_of, 0))
    # Whoever reaches a tile reaches all above it, so the site of this rank holds the lowest tile that has enough.
    ranked = sorted(depth_of.values(), reverse=True)
    lowest = ranked[least - 1] if len(ranked) >= least else 0
    return {site: min(depth, lowest) for site, depth in depth_of.items()}
