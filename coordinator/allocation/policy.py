"""Which tiles each site gets: as many from the top as its memory and the deadline allow.

Cost grows about linearly in the number of trained matrices counted from the top, and each site has
measured its own three numbers on the actual model (`JobProfile`), so the largest affordable prefix of
tiles follows from arithmetic. Prefixes are nested, hence few different cohorts and few bundles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """How heads are shared out."""

    COVERAGE = "coverage"
    """Every site trains as many heads as it can, so that each head has as large a cohort as possible."""


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
class Allocation:
    """Who trains what in a round."""

    tiles_of: Mapping[SiteId, tuple[int, ...]]
    """Ascending tile ids of each site that takes part; empty means the dense blocks alone."""
    left_out: Mapping[SiteId, Shortage]
    """Sites that cannot even train the dense blocks."""


def allocate(
    tiles: Sequence[Tile],
    fleet: Mapping[SiteId, SiteCapacity],
    *,
    steps: int,
    training_deadline_s: float,
) -> Allocation:
    """Give every site of `fleet` the largest prefix of `tiles` that it can hold in memory and train in time."""
    tiles_of: dict[SiteId, tuple[int, ...]] = {}
    left_out: dict[SiteId, Shortage] = {}
    for site in sorted(fleet):
        granted = _affordable(tiles, fleet[site], steps, training_deadline_s)
        if isinstance(granted, Shortage):
            left_out[site] = granted
        else:
            tiles_of[site] = tuple(tile.tile_id for tile in tiles[:granted])
    return Allocation(tiles_of=tiles_of, left_out=left_out)


def predicted_training_s(job: JobProfile, matrices: int, steps: int) -> float:
    """Return the seconds of a round's training of the top `matrices`."""
    return steps * (job.step_floor_s + job.step_per_matrix_s * matrices)


def _affordable(tiles: Sequence[Tile], site: SiteCapacity, steps: int, deadline_s: float) -> int | Shortage:
    """Return how many tiles from the top the site affords, or what it lacks for none."""
    granted: int | Shortage = Shortage.MEMORY
    for count, matrices in enumerate(_matrices_from_top(tiles)):
        if site.job.peak_bytes(matrices) * MEMORY_MARGIN > site.hardware.ram_limit_bytes:
            return granted
        if predicted_training_s(site.job, matrices, steps) > DEADLINE_SHARE * deadline_s:
            return Shortage.TIME if granted is Shortage.MEMORY else granted
        granted = count
    return granted


def _matrices_from_top(tiles: Sequence[Tile]) -> Iterator[int]:
    total = 0
    yield total
    for tile in tiles:
        total += matrices_in(tile)
        yield total
