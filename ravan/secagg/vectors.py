"""Put quantised blocks, statistics and scores into a bundle's vector, and read the sums back out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.ids import BlockId
from ravan.secagg.bundles import BlockSlot, BundleLayout
from ravan.secagg.packing import RING, Elements, modulus_mask
from ravan.secagg.refusals import malformed
from ravan.secagg.scores import encode_scores
from ravan.secagg.statistics import LocalStatistics, decode_statistics, encode_statistics

NO_SCORES: Final[Mapping[BlockId, float]] = MappingProxyType({})
"""Of a round in which no scores are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantisedBlock:
    """One block in fixed point."""

    values: NDArray[np.int32]
    """Row-major, one dimension; |value| is at most the assignment's quantum limit."""
    clipped: bool
    """Whether the block's norm was above its bound."""


def assemble(
    layout: BundleLayout,
    blocks: Mapping[BlockId, QuantisedBlock],
    statistics: LocalStatistics,
    weight: int = 1,
    scores: Mapping[BlockId, float] = NO_SCORES,
) -> Elements:
    """Return the bundle's vector modulo the ring; `statistics` enter bundle 0 only, `weight` the weighted profile only.

    `scores` are from 0 to 1. Raise ProtocolError (MALFORMED) when a block or score of the layout is missing or a block
    has another length.
    """
    vector = np.zeros(layout.length, RING)
    vector[list(layout.canaries)] = 1
    vector[layout.weight] = weight
    if layout.statistics.stop > layout.statistics.start:
        vector[layout.statistics] = encode_statistics(statistics, layout.ring_bits)
    vector[layout.scores] = encode_scores(scores, layout.scored, layout.ring_bits)
    for slot in layout.slots:
        block = blocks.get(slot.block_id)
        if block is None or block.values.shape != (slot.length,):
            raise malformed(f"The update has no block {slot.block_id} of {slot.length} values.")
        vector[slot.offset : slot.flag] = block.values.astype(RING)
        vector[slot.flag] = block.clipped
    vector &= modulus_mask(layout.ring_bits)
    return vector


def read_weight(layout: BundleLayout, total: Elements, survivors: int) -> int:
    """Return the summed weight of the survivors: their number in the uniform profile."""
    return int(total[layout.weight][0]) if layout.weight.stop > layout.weight.start else survivors


def read_statistics(layout: BundleLayout, total: Elements) -> LocalStatistics:
    """Return the totals of the survivors from the sum of bundle 0."""
    return decode_statistics([int(limb) for limb in total[layout.statistics]], layout.ring_bits)


def read_scores(layout: BundleLayout, total: Elements) -> dict[BlockId, int]:
    """Return the summed score of each head that the bundle carries one of, in steps of 1 / score_limit."""
    return {head: int(score) for head, score in zip(layout.scored, total[layout.scores], strict=True)}


def read_block(layout: BundleLayout, slot: BlockSlot, total: Elements) -> NDArray[np.int64]:
    """Return the signed sums of one block from the sum modulo the ring."""
    values = total[slot.offset : slot.flag].astype(np.int64)
    values[values >= 1 << layout.ring_bits - 1] -= 1 << layout.ring_bits
    return values


def read_flag(slot: BlockSlot, total: Elements) -> int:
    """Return how many survivors clipped the block."""
    return int(total[slot.flag])
