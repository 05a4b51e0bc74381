"""Who takes part in a job's next round, or what the job waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.allocation.cells import Tiles, join_classes
from coordinator.allocation.policy import Allocation, Shortage, SiteCapacity, allocate
from coordinator.allocation.tiles import form_tiles
from coordinator.rounds.candidates import Lineup
from coordinator.rounds.ports import Job
from coordinator.store.records import RoundRecord
from ravan.ids import SiteId
from ravan.manifest.assignment import MAX_MEMBERS, Suite, Tile, Weighting
from ravan.manifest.phases import RoundOutcome

SETTLE_S: Final = 30.0
"""How long a round waits, once enough sites are ready, for connected ones that still prepare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Who takes part, with which tiles."""

    sites: tuple[SiteId, ...]
    """By name; the position is the member index."""
    tiles: tuple[Tile, ...]
    tiles_of: Mapping[SiteId, tuple[int, ...]]
    suite: Suite
    """Keystream that all their CPUs are quick at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why no round can start."""

    sentence: str


def select(
    job: Job, lineup: Lineup, fleet: Mapping[SiteId, SiteCapacity], rounds: Sequence[RoundRecord]
) -> Selection | Waiting:
    """Allot tiles to the ready sites from their newest reports.

    Above 4096 sites those take part that completed the fewest rounds.
    """
    tiles = form_tiles(job.plan)
    allocation = _allocate(job, tiles, {site: fleet[site] for site in lineup.ready if site in fleet})
    needed = job.file.minimum_sites
    if len(allocation.tiles_of) < needed:
        return Waiting(sentence=say_waiting(lineup, len(allocation.tiles_of), needed, allocation.left_out))
    chosen = _least_used(tuple(allocation.tiles_of), rounds)
    settings = job.file.secure_aggregation
    return Selection(
        sites=chosen,
        tiles=tiles,
        tiles_of=_allot({site: allocation.tiles_of[site] for site in chosen}, settings.weighting()),
        suite=settings.suite.choose(aes_everywhere=all(fleet[site].hardware.aes_instructions for site in chosen)),
    )


def say_waiting(lineup: Lineup, ready: int, needed: int, left_out: Mapping[SiteId, Shortage]) -> str:
    """Return one sentence that says what the job waits for."""
    parts = [f"Waits for sites: {ready} ready, {needed} needed"]
    if lineup.preparing:
        parts.append(f"{_names(lineup.preparing)} preparing")
    if lineup.busy:
        parts.append(f"{_names(lineup.busy)} in a round of another job")
    parts += [f"{site} cannot take part ({reason})" for site, reason in lineup.barred]
    parts += [f"{site} is short of {shortage}" for site, shortage in left_out.items()]
    return "; ".join(parts) + "."


def count_committed(rounds: Sequence[RoundRecord]) -> int:
    """Return how many rounds made a new version."""
    return sum(record.outcome is RoundOutcome.COMMITTED for record in rounds)


def _allocate(job: Job, tiles: Sequence[Tile], fleet: Mapping[SiteId, SiteCapacity]) -> Allocation:
    return allocate(
        tiles,
        fleet,
        steps=job.plan.training.steps,
        training_deadline_s=job.file.round.training_deadline_s,
    )


def _allot(tiles_of: Mapping[SiteId, Tiles], weighting: Weighting | None) -> Mapping[SiteId, Tiles]:
    return tiles_of if weighting is None else join_classes(tiles_of, weighting.cell_minimum)


def _least_used(sites: Sequence[SiteId], rounds: Sequence[RoundRecord]) -> tuple[SiteId, ...]:
    used = {site: sum(site in record.completed for record in rounds) for site in sites}
    return tuple(sorted(sorted(sites, key=lambda site: (used[site], site))[:MAX_MEMBERS]))


def _names(sites: Sequence[SiteId]) -> str:
    return ", ".join(sites)
