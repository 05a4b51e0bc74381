"""Which of the tiles that it can hold a site trains, where it trains only a part of them. Pure.

A site's price of a set of tiles is that of the run from the top that contains it (`coordinator.allocation.policy`), so
any set within its reach is affordable, and all of it costs no more than the lowest tile. Rankings matter where a job
asks for less: shorter steps, smaller uploads, other heads each round.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from coordinator.allocation.coverage import CoverageRules, count_holders
from ravan.ids import BlockId, BlockKind, RunId, SiteId
from ravan.manifest.assignment import Tile

if TYPE_CHECKING:
    from ravan.adapters.state import ModelState

Tiles = tuple[int, ...]

Ranking = Callable[[int], Sequence[int]]
"""From how many tiles a class of sites reaches, to these tiles with the first choice first."""

_LABEL: Final = b"ravan/allocation/random/v1"


def rank_from_top(depth: int) -> Sequence[int]:
    """Put the uppermost tiles first."""
    return range(depth)


def rank_at_random(run_id: RunId, round_number: int) -> Ranking:
    """Return the ranking that a round draws, for each depth its own (paper, "random" scores).

    Tiles are in the order of SHA-256 over the label, the run id, and round number, depth and tile as big-endian u64:
    anybody who knows the run can draw it again.
    """

    def rank(depth: int) -> Sequence[int]:
        def place(tile: int) -> bytes:
            return hashlib.sha256(_LABEL + run_id + struct.pack(">3Q", round_number, depth, tile)).digest()

        return sorted(range(depth), key=place)

    return rank


def rank_by_weight(tiles: Sequence[Tile], norms: Mapping[BlockId, float]) -> Ranking:
    """Return the ranking by the mean norm of a tile's heads, largest first; of equal ones the upper comes first.

    The paper's "weight" scores, of the global products instead of a client's own: no site chooses by its data.
    """
    return _rank_by_mean(tiles, norms)


def rank_by_gradient(tiles: Sequence[Tile], scores: Mapping[BlockId, float]) -> Ranking:
    """Return the ranking by the mean score of a tile's heads, largest first; of equal ones the upper comes first.

    The paper's "gradient" scores, each a mean over the sites that can hold the head: a sum would put heads that few can
    hold behind all others. Tiles without scores come last, from the top; without any this is `rank_from_top`.
    """
    return _rank_by_mean(tiles, scores)


def head_norms(state: ModelState) -> dict[BlockId, float]:
    """Return the Frobenius norm of every head's global product, summed in float64."""
    import numpy as np  # noqa: PLC0415 - one policy alone computes

    return {
        block: float(np.linalg.norm(product.astype(np.float64)))
        for block, product in state.items()
        if block.kind is BlockKind.HEAD
    }


def choose_tiles(
    depth_of: Mapping[SiteId, int], rules: CoverageRules, ranking: Ranking, share: float
) -> dict[SiteId, Tiles]:
    """Return the ascending tile ids of each site of a settled fleet: `share` of what it reaches, 0 < share <= 1.

    Sites of equal depth get the same tiles. Every tile has the least number of sites or none, and nobody who reaches a
    tile is left without one. In the weighted profile sites of unequal depth get unequal tiles where that can be: so
    classes, and with them cells, stay the same whatever the ranking says.
    """
    classes = Counter(depth_of.values())
    least = rules.least(count_holders(depth_of, 0))
    open_tiles = frozenset(range(max(classes, default=0)))
    common: int | None = None
    while True:
        wishes = {depth: _order(ranking(depth), open_tiles, common) for depth in sorted(classes)}
        chosen = _choose(wishes, share, apart=rules.weighting is not None)
        tile = _find_thin(chosen, classes, least)
        if tile is None:
            return {site: chosen[depth] for site, depth in depth_of.items()}
        if common is None and any(wishes[depth] == [tile] for depth in classes):
            # The last one that somebody reaches. Trained by all who reach it, it has enough in a settled fleet.
            common = tile
        else:
            open_tiles -= {tile}


def _rank_by_mean(tiles: Sequence[Tile], values: Mapping[BlockId, float]) -> Ranking:
    """Rank by the mean of the heads' values, of which none is negative; a tile of which no head has one comes last."""
    known = [[values[block] for block in tile.blocks if block in values] for tile in tiles]
    means = [math.fsum(mine) / len(mine) if mine else -1.0 for mine in known]
    return lambda depth: sorted(range(depth), key=lambda tile: (-means[tile], tile))


def _order(ranked: Sequence[int], open_tiles: frozenset[int], common: int | None) -> list[int]:
    return sorted((tile for tile in ranked if tile in open_tiles), key=lambda tile: tile != common)


def _choose(wishes: Mapping[int, Sequence[int]], share: float, *, apart: bool) -> dict[int, Tiles]:
    """Return the tiles of each depth; `apart` gives a class one more tile where a weaker one has the same."""
    chosen: dict[int, Tiles] = {}
    for depth, wished in wishes.items():
        # 0.7 * 10 is a little more than 7 in floating point.
        count = max(1, math.ceil(round(share * depth, 9)))
        while apart and count < len(wished) and tuple(sorted(wished[:count])) in chosen.values():
            count += 1
        chosen[depth] = tuple(sorted(wished[:count]))
    return chosen


def _find_thin(chosen: Mapping[int, Tiles], classes: Mapping[int, int], least: int) -> int | None:
    """Return the tile with fewest sites, the lowest of several, if it has some and fewer than `least`."""
    holders: Counter[int] = Counter()
    for depth, tiles in chosen.items():
        holders.update(dict.fromkeys(tiles, classes[depth]))
    thinnest = min(((count, -tile) for tile, count in holders.items()), default=(least, 0))
    return -thinnest[1] if thinnest[0] < least else None
