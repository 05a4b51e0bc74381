"""Clip a site's update and bring it into fixed point, ready to be masked.

The rounding generator is seeded by the operating system but is no cipher: it decides roundings,
never masks, and its state is not shared. Everything secret is derived in `ravan.secagg`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment, BlockSpec
from ravan.manifest.roster import Bundle
from ravan.secagg.bundles import lay_out
from ravan.secagg.packing import Elements
from ravan.secagg.rotation import coordinate_bound, rotate, rotated_side
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.vectors import NO_SCORES, QuantisedBlock, assemble

_CHUNK: Final = 1 << 15
"""Values that are rounded at once, so that float64 copies stay in the cache."""

_ROUNDING: Final = 1
"""Keeps rounding apart from all else that the same seed may serve."""


def rounding_source(seed: bytes) -> np.random.Generator:
    """Return a fast generator for stochastic rounding; `seed` is of the operating system and new for each update.

    Whoever has to round an update again, since nothing of the first time is left, rounds it the same way.
    """
    sequence = np.random.SeedSequence(int.from_bytes(seed, "big"), spawn_key=(_ROUNDING,))
    return np.random.Generator(np.random.SFC64(sequence))


def quantise_update(
    assignment: Assignment,
    bundles: tuple[Bundle, ...],
    deltas: Mapping[BlockId, NDArray[Any]],
    statistics: LocalStatistics,
    generator: np.random.Generator,
    *,
    held_examples: int = 0,
    scores: Mapping[BlockId, float] = NO_SCORES,
) -> dict[int, Elements]:
    """Return the uint32 vector of each of this member's `bundles` by bundle id.

    `bundles` are `bundles_of(roster.bundles, index)`; `deltas` hold at least their blocks, and `scores`, from 0 to 1,
    their scored heads; `held_examples` give the weight where the round has weights. Call once for one training
    result: a second rounding of it would be a second update. Raise DataError for a delta that is not finite,
    ProtocolError for a block that is missing or misshaped or a score that is missing.
    """
    specs = {spec.block_id: spec for spec in assignment.blocks}
    weight = site_weight(assignment, held_examples)

    def vector(bundle: Bundle) -> Elements:
        blocks = {
            block: quantise_block(block, deltas[block], _grid(assignment, specs[block], weight), generator)
            for block in bundle.blocks
            if block in deltas and deltas[block].size == specs[block].length
        }
        return assemble(lay_out(assignment, bundle), blocks, statistics, weight, scores)

    return {bundle.bundle_id: vector(bundle) for bundle in bundles}


def site_weight(assignment: Assignment, held_examples: int) -> int:
    """Return how much a site with so many examples counts: 1 to W_max, and always 1 in the uniform profile."""
    terms = assignment.weighting
    return 1 if terms is None else max(1, min(-(-held_examples // terms.unit), terms.limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How one block is brought into fixed point."""

    clip: float
    """L2 bound of the delta."""
    bound: float
    """Value that the largest integer stands for."""
    limit: int
    """Largest integer Q; a step is bound / limit."""
    share: float = 1.0
    """Factor on the delta: the site's weight over the largest there is. Costs no bits of the ring."""
    rotation: Callable[[NDArray[Any]], NDArray[np.float64]] | None = None
    """What the flat delta goes through before it is rounded."""


def quantise_block(
    block_id: BlockId, delta: NDArray[Any], grid: Grid, generator: np.random.Generator
) -> QuantisedBlock:
    """Scale `delta` to an L2 norm of at most the clip, then round stochastically to whole steps.

    Unbiased; each value is off by at most one step, so the mean of n sites is off by at most one step in any case and
    by step / (2 sqrt n) in standard deviation; with weights, by that x n W_max / (their sum). A rotation keeps
    the L2 norm of the error; a rotated value beyond the bound (`rotation.TAIL`) is cut, and the flag tells.
    Raise DataError for NaN or infinity.
    """
    flat = np.ravel(delta)
    norm = float(np.linalg.norm(flat.astype(np.float64)))
    if not np.isfinite(norm):
        raise DataError(
            f"The trained {block_id} holds NaN or infinity and is not sent.",
            reason=ErrorReason.MALFORMED,
            next_step="Lower the job's learning rate, or look for broken rows in the site's data.",
        )
    clipped = norm > grid.clip
    scale = (grid.clip / norm if clipped else 1.0) * grid.share * (grid.limit / grid.bound)
    if grid.rotation is not None:
        flat = grid.rotation(flat)
    values = np.empty(flat.size, np.int32)
    for start in range(0, flat.size, _CHUNK):
        scaled = flat[start : start + _CHUNK] * np.float64(scale)
        clipped = clipped or (grid.rotation is not None and float(np.abs(scaled).max()) > grid.limit)
        scaled += generator.random(len(scaled))
        np.floor(scaled, out=scaled)
        # One value may hold the whole norm and be rounded up past the limit that keeps sums from wrapping.
        values[start : start + _CHUNK] = np.clip(scaled, -grid.limit, grid.limit)
    return QuantisedBlock(values=values, clipped=clipped)


def _grid(assignment: Assignment, spec: BlockSpec, weight: int) -> Grid:
    return Grid(
        clip=spec.clip,
        bound=coordinate_bound(assignment, spec),
        limit=assignment.quantum_limit,
        share=1.0 if assignment.weighting is None else weight / assignment.weighting.limit,
        rotation=partial(rotate, assignment, spec) if rotated_side(assignment, spec) else None,
    )
