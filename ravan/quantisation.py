"""Clip a site's update and bring it into fixed point, ready to be masked.

The rounding generator is seeded by the operating system but is no cipher: it decides roundings,
never masks, and its state is not shared. Everything secret is derived in `ravan.secagg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle
from ravan.secagg.bundles import lay_out
from ravan.secagg.packing import Elements
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.vectors import QuantisedBlock, assemble

_CHUNK: Final = 1 << 15
"""Values that are rounded at once, so that float64 copies stay in the cache."""


def rounding_source() -> np.random.Generator:
    """Return a fast generator for stochastic rounding, seeded by the operating system."""
    return np.random.Generator(np.random.SFC64())


def quantise_update(
    assignment: Assignment,
    bundles: tuple[Bundle, ...],
    deltas: Mapping[BlockId, NDArray[Any]],
    statistics: LocalStatistics,
    generator: np.random.Generator,
) -> dict[int, Elements]:
    """Return the uint32 vector of each of this member's `bundles` by bundle id.

    `bundles` are `bundles_of(roster.bundles, index)`; `deltas` hold at least their blocks. Call once
    for one training result: a second rounding of it would be a second update. Raise DataError for
    a delta that is not finite, ProtocolError for a block that is missing or misshaped.
    """
    specs = {spec.block_id: spec for spec in assignment.blocks}
    limit = assignment.quantum_limit

    def vector(bundle: Bundle) -> Elements:
        blocks = {
            block: quantise_block(block, deltas[block], specs[block].clip, limit, generator)
            for block in bundle.blocks
            if block in deltas
        }
        return assemble(lay_out(assignment, bundle), blocks, statistics)

    return {bundle.bundle_id: vector(bundle) for bundle in bundles}


def quantise_block(
    block_id: BlockId, delta: NDArray[Any], clip: float, limit: int, generator: np.random.Generator
) -> QuantisedBlock:
    """Scale `delta` to an L2 norm of at most `clip`, then round stochastically to steps of clip / limit.

    Unbiased; each value is off by at most one step, so the mean of n sites is off by at most one step
    in any case and by step / (2 sqrt n) in standard deviation. Raise DataError for NaN or infinity.
    """
    flat = np.ravel(delta)
    norm = float(np.linalg.norm(flat.astype(np.float64)))
    if not np.isfinite(norm):
        raise DataError(
            f"The trained {block_id} holds NaN or infinity and is not sent.",
            reason=ErrorReason.MALFORMED,
            next_step="Lower the job's learning rate, or look for broken rows in the site's data.",
        )
    clipped = norm > clip
    scale = (clip / norm if clipped else 1.0) * (limit / clip)
    values = np.empty(flat.size, np.int32)
    for start in range(0, flat.size, _CHUNK):
        scaled = flat[start : start + _CHUNK] * np.float64(scale)
        scaled += generator.random(len(scaled))
        np.floor(scaled, out=scaled)
        # One value may hold the whole norm and be rounded up past the limit that keeps sums from wrapping.
        values[start : start + _CHUNK] = np.clip(scaled, -limit, limit)
    return QuantisedBlock(values=values, clipped=clipped)
