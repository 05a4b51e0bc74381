"""How many tiles from the top each site affords by its memory and the deadline.

Each site has measured on the actual model what training the top 1, 2, ... matrices costs it (`JobProfile`), so the
longest affordable run of tiles is looked up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coordinator.allocation.tiles import matrices_in
from ravan.ids import SiteId
from ravan.manifest.assignment import Tile
from ravan.manifest.profile import HardwareProfile, JobProfile

MEMORY_MARGIN: Final = 1.05
"""Predicted peak times this must fit the limit; repeated probes of one machine differ by a few per cent."""

DEADLINE_SHARE: Final = 0.8
"""Part of the training deadline that predicted training may fill; the rest is for a PC that is busy."""


class AllocationPolicy(StrEnum):
    """Which heads come first."""

    COVERAGE = "coverage"
    """From the top, so that each head has as large a cohort as possible."""
    RANDOM = "random"
    """Others in each round."""
    WEIGHT = "weight"
    """Those first that have moved furthest so far."""
    GRADIENT = "gradient"
    """Those first along which the sites' losses fell steepest in the round before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCapacity:
    """Newest reports of one site."""

    hardware: HardwareProfile
    job: JobProfile


class Shortage(StrEnum):
    """What a site lacks to take part at all."""

    MEMORY = "memory"
    TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a round's training may take at any site."""

    steps: int
    training_deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far down each site of a fleet can train."""

    depth_of: Mapping[SiteId, int]
    """Tiles from the top that each site affords; 0 means the dense blocks alone."""
    left_out: Mapping[SiteId, Shortage]
    """Sites that cannot even train the dense blocks."""


def find_reach(tiles: Sequence[Tile], fleet: Mapping[SiteId, SiteCapacity], budget: Budget) -> Reach:
    """Return for every site the longest run of `tiles` from the top that it can hold in memory and train in time."""
    matrices = matrices_from_top(tiles)
    depth_of: dict[SiteId, int] = {}
    left_out: dict[SiteId, Shortage] = {}
    for site in sorted(fleet):
        depth = _affordable(matrices, fleet[site], budget)
        if isinstance(depth, Shortage):
            left_out[site] = depth
        else:
            depth_of[site] = depth
    return Reach(depth_of=depth_of, left_out=left_out)


def matrices_from_top(tiles: Sequence[Tile]) -> tuple[int, ...]:
    """Return how many matrices each run of tiles from the top spans, that of no tile first."""
    return (0, *itertools.accumulate(map(matrices_in, tiles)))


def needed_bytes(job: JobProfile, matrices: int) -> int:
    """Return the least memory limit under which a site is asked to train the top `matrices`."""
    return math.ceil(job.peak_bytes(matrices) * MEMORY_MARGIN)


def needed_deadline_s(job: JobProfile, matrices: int, steps: int) -> float:
    """Return the least training deadline under which a site is asked to train the top `matrices`."""
    return steps * job.step_s(matrices) / DEADLINE_SHARE


def _affordable(matrices: Sequence[int], site: SiteCapacity, budget: Budget) -> int | Shortage:
    """Return how many tiles from the top the site affords, or what it lacks for none."""
    depth: int | Shortage = Shortage.MEMORY
    for count, spanned in enumerate(matrices):
        if needed_bytes(site.job, spanned) > site.hardware.ram_limit_bytes:
            return depth
        if needed_deadline_s(site.job, spanned, budget.steps) > budget.training_deadline_s:
            return Shortage.TIME if depth is Shortage.MEMORY else depth
        depth = count
    return depth
