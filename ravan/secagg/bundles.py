"""Which blocks and scores are masked together, and where each coordinate lies in the vector of a bundle.

A bundle is all blocks with one and the same cohort among the finishers, and the scores of all heads that this cohort
scores: one keystream per pair and bundle, one self-mask seed per member and bundle, one decision about release.
Coordinator and agents compute the same plan from the assignment and U1; agents refuse a roster that says anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ravan.ids import BlockId, BlockKind
from ravan.manifest.assignment import Assignment, Member
from ravan.manifest.roster import Bundle
from ravan.secagg.cells import Cell, are_whole, draw_cells
from ravan.secagg.statistics import statistics_limbs

COMMON_BUNDLE = 0
"""Id of the bundle that every finisher uploads: statistics and dense blocks."""

_PADDING = 4


def shamir_threshold(members: int) -> int:
    """Return t = floor(2 n / 3) + 1: two secrets of one owner would need a third of corrupt holders."""
    return 2 * members // 3 + 1


def plan_bundles(assignment: Assignment, finishers: Sequence[int]) -> tuple[Bundle, ...]:
    """Group blocks and scores by cohort among `finishers` (ascending indices); ids follow the block list.

    Scores that have neither bundle 0's cohort nor that of any block make bundles of their own, after the others.
    """
    everyone = tuple(finishers)
    cells = draw_cells(assignment)
    dense = tuple(b.block_id for b in assignment.blocks if b.block_id.kind is BlockKind.DENSE)
    trained = _heads_by_cohort(assignment, everyone, lambda member: member.tiles)
    scored = _heads_by_cohort(assignment, everyone, lambda member: member.scored_tiles)
    bundles = [_bundle(assignment, cells, COMMON_BUNDLE, everyone, dense, scored.pop(everyone, ()))]
    for cohort in trained | scored:
        blocks, scores = trained.get(cohort, ()), scored.get(cohort, ())
        bundles.append(_bundle(assignment, cells, len(bundles), cohort, blocks, scores))
    return tuple(bundles)


def bundles_of(bundles: Iterable[Bundle], index: int) -> tuple[Bundle, ...]:
    """Return what member `index` uploads: its bundles that are not void, by ascending id."""
    return tuple(b for b in bundles if index in b.members and not b.void)


def approved_bundles(assignment: Assignment, bundles: Iterable[Bundle], survivors: Iterable[int]) -> tuple[int, ...]:
    """Return the ids of the bundles with enough survivors, in the bundle and in each of its cells, to be released."""
    alive, cells = frozenset(survivors), draw_cells(assignment)

    def has_enough(bundle: Bundle) -> bool:
        left = alive.intersection(bundle.members)
        return len(left) >= bundle.threshold and are_whole(assignment, cells, left)

    return tuple(bundle.bundle_id for bundle in bundles if not bundle.void and has_enough(bundle))


def _heads_by_cohort(
    assignment: Assignment, finishers: tuple[int, ...], tiles_of: Callable[[Member], tuple[int, ...]]
) -> dict[tuple[int, ...], tuple[BlockId, ...]]:
    """Return the heads of each cohort that is not empty: the finishers whose `tiles_of` has the head's tile."""
    cohorts: dict[BlockId, tuple[int, ...]] = {}
    for tile in assignment.tiles:
        cohort = tuple(i for i in finishers if tile.tile_id in tiles_of(assignment.members[i]))
        cohorts.update(dict.fromkeys(tile.blocks, cohort))
    groups: dict[tuple[int, ...], list[BlockId]] = {}
    for spec in assignment.blocks:
        # Dense blocks are in no tile.
        if members := cohorts.get(spec.block_id):
            groups.setdefault(members, []).append(spec.block_id)
    return {cohort: tuple(heads) for cohort, heads in groups.items()}


def _bundle(
    assignment: Assignment,
    cells: Iterable[Cell],
    bundle_id: int,
    members: tuple[int, ...],
    blocks: tuple[BlockId, ...],
    scored: tuple[BlockId, ...],
) -> Bundle:
    threshold = assignment.bundle_threshold
    void = len(members) < threshold or not are_whole(assignment, cells, members)
    return Bundle(bundle_id=bundle_id, blocks=blocks, scored=scored, members=members, threshold=threshold, void=void)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSlot:
    """Where one block lies: `length` values row-major from `offset`, then its clip flag."""

    block_id: BlockId
    offset: int
    length: int

    @property
    def flag(self) -> int:
        """Return the position of the clip flag."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLayout:
    """Coordinates of a bundle's vector: canary, weight, statistics (bundle 0), scores, blocks, canary, zeros."""

    bundle_id: int
    ring_bits: int
    weight: slice
    """The site's weight; empty in the uniform profile, where nothing is repeated from bundle to bundle."""
    statistics: slice
    """Limbs of the statistics; empty outside bundle 0."""
    scores: slice
    """One element for each of `scored`."""
    scored: tuple[BlockId, ...]
    slots: tuple[BlockSlot, ...]
    canaries: tuple[int, int]
    """Positions of the two constant ones."""
    length: int
    """All ring elements, a multiple of 4."""


def lay_out(assignment: Assignment, bundle: Bundle) -> BundleLayout:
    """Place every coordinate of `bundle`."""
    weight = slice(1, 1 + (assignment.weighting is not None))
    limbs = statistics_limbs(assignment.ring_bits) if bundle.bundle_id == COMMON_BUNDLE else 0
    statistics = slice(weight.stop, weight.stop + limbs)
    scores = slice(statistics.stop, statistics.stop + len(bundle.scored))
    end = scores.stop
    lengths = {spec.block_id: spec.length for spec in assignment.blocks}
    slots = []
    for block_id in bundle.blocks:
        slot = BlockSlot(block_id=block_id, offset=end, length=lengths[block_id])
        slots.append(slot)
        end = slot.flag + 1
    length = -(-(end + 1) // _PADDING) * _PADDING
    return BundleLayout(
        bundle_id=bundle.bundle_id,
        ring_bits=assignment.ring_bits,
        weight=weight,
        statistics=statistics,
        scores=scores,
        scored=bundle.scored,
        slots=tuple(slots),
        canaries=(0, end),
        length=length,
    )
