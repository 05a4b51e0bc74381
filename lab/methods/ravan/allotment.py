"""Which heads each client of a cohort trains: the product's way by layers, or the paper's by heads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from coordinator.allocation.coverage import CoverageRules, settle_depths
from coordinator.allocation.ranking import choose_tiles, head_norms, rank_at_random, rank_by_weight, rank_from_top
from coordinator.allocation.tiles import form_tiles
from lab.methods.method import Client
from ravan.adapters.state import ModelState
from ravan.ids import SiteId
from ravan.manifest.assignment import Tile
from ravan.manifest.plan import JobPlan


class Allotment(StrEnum):
    """How a client's share becomes heads."""

    TOP = "top"
    """All heads of the uppermost matrices: the product's default."""
    RANDOM = "random"
    """Of as many tiles as it reaches, others in each round; the product's policy."""
    WEIGHT = "weight"
    """Of as many tiles as it reaches, those that have moved furthest; the product's policy."""
    EQUAL_COUNT = "equal_count"
    """The same number of heads in each matrix, others in each round (paper, section 4.3, random scores)."""
    LEADING = "leading"
    """The same number of heads in each matrix, always the first ones: those that aligned bases lead with."""


def allot(
    plan: JobPlan, cohort: Sequence[Client], state: ModelState, *, kind: Allotment, threshold: int, round_number: int
) -> tuple[tuple[Tile, ...], Mapping[int, tuple[int, ...]]]:
    """Return the round's tiles, and the tiles of each client by its index in the fleet.

    A head that fewer than `threshold` clients can hold is trained by nobody.
    """
    if kind in (Allotment.EQUAL_COUNT, Allotment.LEADING):
        return _allot_equal_counts(plan, cohort, threshold, None if kind is Allotment.LEADING else round_number)
    tiles = form_tiles(plan)
    rules = CoverageRules(threshold=threshold)
    depth_of = {SiteId(str(client.index)): _part(client.capacity, len(tiles)) for client in cohort}
    if kind is Allotment.TOP:
        chosen = choose_tiles(settle_depths(depth_of, rules), rules, rank_from_top, 1.0)
        return tiles, {int(site): mine for site, mine in chosen.items()}
    # Memory is not what limits a client here, so it chooses among all tiles and not those within its reach alone.
    ranking = (
        rank_at_random(plan.run_id, round_number)
        if kind is Allotment.RANDOM
        else rank_by_weight(tiles, head_norms(state))
    )
    order = list(ranking(len(tiles)))
    return tiles, _drop_thin({c.index: order[: _part(c.capacity, len(tiles))] for c in cohort}, threshold)


def _allot_equal_counts(
    plan: JobPlan, cohort: Sequence[Client], threshold: int, drawn_in: int | None
) -> tuple[tuple[Tile, ...], Mapping[int, tuple[int, ...]]]:
    """Let tile i be the i-th head of every matrix; which ones is drawn for a round, or else they are the first."""
    heads = plan.adapter.heads
    tiles = tuple(Tile(tile_id=i, blocks=tuple(b for b in plan.head_ids() if b.index == i)) for i in range(heads))
    chosen = {}
    for client in cohort:
        order: Iterable[int] = range(heads)
        if drawn_in is not None:
            # Each client draws for itself (paper): the round's number alone would give all of them the same heads.
            order = rank_at_random(plan.run_id, (drawn_in << 20) + client.index)(heads)
        chosen[client.index] = list(order)[: _part(client.capacity, heads)]
    return tiles, _drop_thin(chosen, threshold)


def _drop_thin(chosen: Mapping[int, Sequence[int]], threshold: int) -> dict[int, tuple[int, ...]]:
    holders: dict[int, int] = {}
    for tiles in chosen.values():
        for tile in tiles:
            holders[tile] = holders.get(tile, 0) + 1
    return {
        client: tuple(sorted(tile for tile in tiles if holders[tile] >= threshold)) for client, tiles in chosen.items()
    }


def _part(share: float, of: int) -> int:
    """Return the paper's K = floor(share x of), and 1 at least where there is any."""
    return min(of, max(1, math.floor(round(share * of, 9))))
