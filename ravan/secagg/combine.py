"""Turn unmasked sums into what the coordinator adds to the model: mean deltas, counts, what is withheld."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Bundle, Roster
from ravan.secagg.bundles import COMMON_BUNDLE, BlockSlot, lay_out
from ravan.secagg.messages import SurvivorSet
from ravan.secagg.packing import Elements
from ravan.secagg.refusals import malformed, violation
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.vectors import read_block, read_flag, read_statistics


class WithheldReason(StrEnum):
    """Why the sum of a bundle stays masked."""

    VOID = "VOID"
    """Too few of its cohort finished training; nobody uploaded it."""
    THIN = "THIN"
    """Too few of its cohort uploaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A bundle that was not released."""

    bundle_id: int
    reason: WithheldReason
    blocks: tuple[BlockId, ...]
    survivors: int
    """Survivors of its cohort."""
    threshold: int
    """Survivors that it would have needed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSum:
    """The exact sum of one released block, and its mean."""

    total: NDArray[np.int64]
    """Sum of the survivors' quantised values, row-major."""
    count: int
    """Survivors that trained the block."""
    clipped: int
    """How many of them clipped it."""
    mean: NDArray[np.float64]
    """Mean delta: total x clip / (quantum limit x denominator), one division."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundSum:
    """Everything that one round's secure aggregation gives."""

    survivors: tuple[int, ...]
    statistics: LocalStatistics
    """Totals over all survivors."""
    blocks: Mapping[BlockId, BlockSum]
    """Released blocks, in the order of the assignment."""
    withheld: tuple[Withheld, ...]
    untrained: tuple[BlockId, ...]
    """Blocks that no finisher trains."""


def decode_sums(
    assignment: Assignment,
    roster: Roster,
    survivor_set: SurvivorSet,
    sums: Mapping[int, Elements],
    denominator: Denominator,
) -> RoundSum:
    """Decode the sums of all approved bundles.

    Raise ProtocolError: MALFORMED when `sums` are not those of the approved bundles,
    PROTOCOL_VIOLATION when a sum lies outside what honest members can reach.
    """
    if sums.keys() != set(survivor_set.bundles):
        raise malformed("The unmasked sums are not those of the approved bundles.")
    alive = frozenset(survivor_set.survivors)
    blocks: dict[BlockId, BlockSum] = {}
    for bundle in roster.bundles:
        if bundle.bundle_id in sums:
            count = len(alive.intersection(bundle.members))
            divisor = count if denominator is Denominator.TRAINERS else len(alive)
            blocks.update(_decode_bundle(assignment, bundle, sums[bundle.bundle_id], count, divisor))
    common = lay_out(assignment, roster.bundles[COMMON_BUNDLE])
    bundled = {block for bundle in roster.bundles for block in bundle.blocks}
    order = [spec.block_id for spec in assignment.blocks]
    return RoundSum(
        survivors=survivor_set.survivors,
        statistics=read_statistics(common, sums[COMMON_BUNDLE]),
        blocks={block: blocks[block] for block in order if block in blocks},
        withheld=tuple(_withheld(b, alive) for b in roster.bundles if b.bundle_id not in sums),
        untrained=tuple(block for block in order if block not in bundled),
    )


def _decode_bundle(
    assignment: Assignment, bundle: Bundle, total: Elements, count: int, divisor: int
) -> dict[BlockId, BlockSum]:
    layout = lay_out(assignment, bundle)
    if total.shape != (layout.length,):
        raise malformed(f"The sum of bundle {bundle.bundle_id} does not have {layout.length} elements.")
    limit = assignment.quantum_limit
    return {slot.block_id: _decode_block(slot, total, count, divisor, limit) for slot in layout.slots}


def _decode_block(slot: BlockSlot, total: Elements, count: int, divisor: int, limit: int) -> BlockSum:
    values, clipped = read_block(slot, total), read_flag(slot, total)
    if np.abs(values).max() > count * limit or clipped > count:
        raise violation(f"The sum of block {slot.block_id} is larger than {count} honest sites can make it.")
    mean = values * slot.clip / (limit * divisor)
    return BlockSum(total=values, count=count, clipped=clipped, mean=mean)


def _withheld(bundle: Bundle, alive: frozenset[int]) -> Withheld:
    return Withheld(
        bundle_id=bundle.bundle_id,
        reason=WithheldReason.VOID if bundle.void else WithheldReason.THIN,
        blocks=bundle.blocks,
        survivors=len(alive.intersection(bundle.members)),
        threshold=bundle.threshold,
    )
