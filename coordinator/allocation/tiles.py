"""The tiles of a round: groups of heads that are allotted as one, uppermost layers first."""

from __future__ import annotations

import itertools

from ravan.ids import BlockId, BlockKind
from ravan.manifest.assignment import MAX_TILES, Tile
from ravan.manifest.plan import JobPlan, Matrix


def form_tiles(plan: JobPlan) -> tuple[Tile, ...]:
    """Group all heads of consecutive matrices into at most 16 tiles; tile 0 holds the uppermost matrices.

    A tile never splits a matrix: a site that trains one head of a matrix pays for its backward pass anyway.
    Sizes differ by at most one matrix. A job without heads has no tiles.
    """
    downwards = plan.matrices[::-1]
    count = min(MAX_TILES, len(downwards))
    edges = [tile * len(downwards) // count for tile in range(count)] + [len(downwards)] if count else []
    return tuple(
        Tile(tile_id=tile, blocks=_heads_of(plan, downwards[start:end]))
        for tile, (start, end) in enumerate(itertools.pairwise(edges))
    )


def matrices_in(tile: Tile) -> int:
    """Return how many matrices a tile spans."""
    return len({block.matrix for block in tile.blocks})


def _heads_of(plan: JobPlan, matrices: tuple[Matrix, ...]) -> tuple[BlockId, ...]:
    epoch = plan.adapter.epoch
    ordinals = sorted(matrix.ordinal for matrix in matrices)
    return tuple(BlockId(BlockKind.HEAD, epoch, m, index) for m in ordinals for index in range(plan.adapter.heads))
