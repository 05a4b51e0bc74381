"""Which blocks are masked together, and where each coordinate lies in the vector of a bundle.

A bundle is all blocks with one and the same cohort among the finishers: one keystream per pair and
bundle, one self-mask seed per member and bundle, one decision about release. Coordinator and agents
compute the same plan from the assignment and U1; agents refuse a roster that says anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ravan.ids import BlockId, BlockKind
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle
from ravan.secagg.refusals import violation
from ravan.secagg.statistics import LIMB_BITS, STATISTICS_LIMBS

COMMON_BUNDLE = 0
"""Id of the bundle that every finisher uploads: statistics and dense blocks."""

_PADDING = 4


def shamir_threshold(members: int) -> int:
    """Return t = floor(2 n / 3) + 1: two secrets of one owner would need a third of corrupt holders."""
    return 2 * members // 3 + 1


def plan_bundles(assignment: Assignment, finishers: Sequence[int]) -> tuple[Bundle, ...]:
    """Group the blocks by cohort among `finishers` (ascending indices); ids follow the block list."""
    everyone = tuple(finishers)
    dense = tuple(b.block_id for b in assignment.blocks if b.block_id.kind is BlockKind.DENSE)
    bundles = [_bundle(assignment, COMMON_BUNDLE, dense, everyone)]
    for cohort, blocks in _heads_by_cohort(assignment, everyone).items():
        if cohort:
            bundles.append(_bundle(assignment, len(bundles), tuple(blocks), cohort))
    return tuple(bundles)


def bundles_of(bundles: Iterable[Bundle], index: int) -> tuple[Bundle, ...]:
    """Return what member `index` uploads: its bundles that are not void, by ascending id."""
    return tuple(b for b in bundles if index in b.members and not b.void)


def approved_bundles(bundles: Iterable[Bundle], survivors: Iterable[int]) -> tuple[int, ...]:
    """Return the ids of the bundles with enough survivors to be released."""
    alive = frozenset(survivors)
    return tuple(b.bundle_id for b in bundles if not b.void and len(alive.intersection(b.members)) >= b.threshold)


def _heads_by_cohort(assignment: Assignment, finishers: tuple[int, ...]) -> dict[tuple[int, ...], list[BlockId]]:
    cohorts: dict[BlockId, tuple[int, ...]] = {}
    for tile in assignment.tiles:
        trainers = tuple(i for i in finishers if tile.tile_id in assignment.members[i].tiles)
        cohorts.update(dict.fromkeys(tile.blocks, trainers))
    groups: dict[tuple[int, ...], list[BlockId]] = {}
    for spec in assignment.blocks:
        if spec.block_id.kind is BlockKind.HEAD:
            groups.setdefault(cohorts.get(spec.block_id, ()), []).append(spec.block_id)
    return groups


def _bundle(assignment: Assignment, bundle_id: int, blocks: tuple[BlockId, ...], members: tuple[int, ...]) -> Bundle:
    threshold = assignment.bundle_threshold
    void = len(members) < threshold
    return Bundle(bundle_id=bundle_id, blocks=blocks, members=members, threshold=threshold, void=void)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSlot:
    """Where one block lies: `length` values row-major from `offset`, then its clip flag."""

    block_id: BlockId
    offset: int
    length: int
    clip: float

    @property
    def flag(self) -> int:
        """Return the position of the clip flag."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLayout:
    """Coordinates of a bundle's vector: canary, statistics (bundle 0), blocks, canary, zeros."""

    bundle_id: int
    statistics: slice
    """Limbs of the statistics; empty outside bundle 0."""
    slots: tuple[BlockSlot, ...]
    canaries: tuple[int, int]
    """Positions of the two constant ones."""
    length: int
    """All ring elements, a multiple of 4."""


def lay_out(assignment: Assignment, bundle: Bundle) -> BundleLayout:
    """Place every coordinate of `bundle`; raise ProtocolError when the ring cannot hold the limbs' sums."""
    if len(assignment.members) * ((1 << LIMB_BITS) - 1) >= 1 << assignment.ring_bits:
        raise violation(
            f"{len(assignment.members)} members' statistics do not fit a ring of {assignment.ring_bits} bits."
        )
    end = 1 + (STATISTICS_LIMBS if bundle.bundle_id == COMMON_BUNDLE else 0)
    statistics = slice(1, end)
    specs = {spec.block_id: spec for spec in assignment.blocks}
    slots = []
    for block_id in bundle.blocks:
        slot = BlockSlot(block_id=block_id, offset=end, length=specs[block_id].length, clip=specs[block_id].clip)
        slots.append(slot)
        end = slot.flag + 1
    length = -(-(end + 1) // _PADDING) * _PADDING
    return BundleLayout(
        bundle_id=bundle.bundle_id, statistics=statistics, slots=tuple(slots), canaries=(0, end), length=length
    )
