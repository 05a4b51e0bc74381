"""Turn unmasked sums into what the coordinator adds to the model: mean deltas, counts, what is withheld."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment, BlockSpec
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Bundle
from ravan.secagg.bundles import COMMON_BUNDLE, lay_out
from ravan.secagg.refusals import malformed, violation
from ravan.secagg.rotation import coordinate_bound, rotate_back, rotated_side
from ravan.secagg.scores import score_limit
from ravan.secagg.statistics import NOTHING, LocalStatistics, add_statistics
from ravan.secagg.unmask import Unmasked
from ravan.secagg.vectors import read_block, read_flag, read_scores, read_statistics, read_weight


class WithheldReason(StrEnum):
    """Why the sum of a bundle stays masked."""

    VOID = "VOID"
    """Too few of its cohort, or of one of its cells, finished training; nobody uploaded it."""
    THIN = "THIN"
    """Too few of its cohort, or of one of its cells, uploaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A bundle of a group that was not released."""

    bundle_id: int
    reason: WithheldReason
    blocks: tuple[BlockId, ...]
    survivors: int
    """Survivors of its cohort."""
    threshold: int
    """Survivors that it would have needed; in the weighted profile each of its cells has a threshold as well."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSum:
    """The exact sum of one released block over all groups, and its mean."""

    total: NDArray[np.int64]
    """Sum of the survivors' quantised values, row-major; rotated where the round rotates the block."""
    count: int
    """Survivors that trained the block."""
    weight: int
    """Their summed weight: their number in the uniform profile."""
    clipped: int
    """How many of them clipped it."""
    mean: NDArray[np.float64]
    """Mean delta: total x bound / (quantum limit x summed share of the weight limit), one division, rotated back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSum:
    """The exact sum of one head's scores over all groups, and its mean."""

    total: int
    """Sum of the survivors' scores in steps of 1 / score_limit."""
    count: int
    """Survivors that scored the head; each counts the same, also in the weighted profile."""
    mean: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundSum:
    """Everything that one round's secure aggregation gives."""

    survivors: tuple[int, ...]
    statistics: LocalStatistics
    """Totals over the survivors of all groups whose bundle 0 was released."""
    blocks: Mapping[BlockId, BlockSum]
    """Released blocks, in the order of the assignment."""
    scores: Mapping[BlockId, ScoreSum]
    """Heads whose scores were released, in the order of the assignment."""
    withheld: tuple[Withheld, ...]
    """By group; another group may have released the same block."""
    untrained: tuple[BlockId, ...]
    """Blocks that no finisher trains."""


@dataclass(slots=True)
class _Tally:
    """A block's integers, added up over groups."""

    total: NDArray[np.int64]
    count: int = 0
    weight: int = 0
    clipped: int = 0


class RoundTally:
    """A round's integers, added up group after group: what was added is not needed any more."""

    def __init__(self, assignment: Assignment) -> None:
        """Begin with no group."""
        self._assignment = assignment
        self._tallies = {spec.block_id: _Tally(np.zeros(spec.length, np.int64)) for spec in assignment.blocks}
        self._survivors: list[int] = []
        self._bundled: set[BlockId] = set()
        self._statistics = NOTHING
        self._scores: Counter[BlockId] = Counter()
        self._scorers: Counter[BlockId] = Counter()
        self._withheld: list[Withheld] = []

    def add(self, group: Unmasked) -> None:
        """Add the sums of a group's approved bundles.

        Raise ProtocolError: MALFORMED when sums are not those of the approved bundles, PROTOCOL_VIOLATION when a sum
        lies outside what honest members can reach.
        """
        assignment = self._assignment
        _check_released(assignment, group)
        for bundle in group.roster.bundles:
            if bundle.bundle_id in group.sums:
                _add_bundle(assignment, group, bundle, self._tallies)
                self._add_scores(group, bundle)
            else:
                self._withheld.append(_withheld(bundle, group))
            self._bundled.update(bundle.blocks)
        self._statistics = add_statistics((self._statistics, _statistics(assignment, group)))
        self._survivors.extend(group.survivor_set.survivors)

    def divide(self, denominator: Denominator) -> RoundSum:
        """Return the sums of all groups and their means: the one division."""
        assignment = self._assignment
        cohort = len(self._survivors) if denominator is Denominator.COHORT else None
        return RoundSum(
            survivors=tuple(sorted(self._survivors)),
            statistics=self._statistics,
            blocks={
                spec.block_id: _mean(assignment, spec, tally, cohort)
                for spec in assignment.blocks
                if (tally := self._tallies[spec.block_id]).count
            },
            scores={
                spec.block_id: self._score(spec.block_id)
                for spec in assignment.blocks
                if spec.block_id in self._scorers
            },
            withheld=tuple(self._withheld),
            untrained=tuple(spec.block_id for spec in assignment.blocks if spec.block_id not in self._bundled),
        )

    def _add_scores(self, group: Unmasked, bundle: Bundle) -> None:
        count = _survivors_of(bundle, group)
        scores = read_scores(lay_out(self._assignment, bundle), group.sums[bundle.bundle_id])
        if max(scores.values(), default=0) > count * score_limit(self._assignment.ring_bits):
            raise violation(f"A score in bundle {bundle.bundle_id} is none that {count} honest sites can have.")
        self._scores.update(scores)
        self._scorers.update(dict.fromkeys(scores, count))

    def _score(self, head: BlockId) -> ScoreSum:
        total, count = self._scores[head], self._scorers[head]
        return ScoreSum(total=total, count=count, mean=total / (score_limit(self._assignment.ring_bits) * count))


def decode_sums(assignment: Assignment, groups: Iterable[Unmasked], denominator: Denominator) -> RoundSum:
    """Decode the sums of all approved bundles of all groups; raise ProtocolError as `RoundTally.add` does."""
    tally = RoundTally(assignment)
    for group in groups:
        tally.add(group)
    return tally.divide(denominator)


def _check_released(assignment: Assignment, group: Unmasked) -> None:
    if group.sums.keys() != set(group.survivor_set.bundles):
        raise malformed("The unmasked sums are not those of the approved bundles.")
    for bundle in group.roster.bundles:
        length = lay_out(assignment, bundle).length
        if bundle.bundle_id in group.sums and group.sums[bundle.bundle_id].shape != (length,):
            raise malformed(f"The sum of bundle {bundle.bundle_id} does not have {length} elements.")


def _add_bundle(assignment: Assignment, group: Unmasked, bundle: Bundle, tallies: Mapping[BlockId, _Tally]) -> None:
    layout, total = lay_out(assignment, bundle), group.sums[bundle.bundle_id]
    count = _survivors_of(bundle, group)
    weight = read_weight(layout, total, count)
    limit = 1 if assignment.weighting is None else assignment.weighting.limit
    if not count <= weight <= count * limit:
        raise violation(f"The weights of bundle {bundle.bundle_id} are none that {count} honest sites can have.")
    for slot in layout.slots:
        values, clipped = read_block(layout, slot, total), read_flag(slot, total)
        if np.abs(values).max() > count * assignment.quantum_limit or clipped > count:
            raise violation(f"The sum of block {slot.block_id} is larger than {count} honest sites can make it.")
        tally = tallies[slot.block_id]
        tally.total += values
        tally.count, tally.weight, tally.clipped = tally.count + count, tally.weight + weight, tally.clipped + clipped


def _mean(assignment: Assignment, spec: BlockSpec, tally: _Tally, cohort: int | None) -> BlockSum:
    limit = 1 if assignment.weighting is None else assignment.weighting.limit
    divisor = tally.weight if cohort is None else cohort
    bound = coordinate_bound(assignment, spec)
    mean = tally.total * (bound * limit) / (assignment.quantum_limit * divisor)
    if rotated_side(assignment, spec):
        mean = rotate_back(assignment, spec, mean)
    return BlockSum(total=tally.total, count=tally.count, weight=tally.weight, clipped=tally.clipped, mean=mean)


def _statistics(assignment: Assignment, group: Unmasked) -> LocalStatistics:
    total = group.sums.get(COMMON_BUNDLE)
    if total is None:
        return NOTHING
    return read_statistics(lay_out(assignment, group.roster.bundles[COMMON_BUNDLE]), total)


def _survivors_of(bundle: Bundle, group: Unmasked) -> int:
    return len(set(bundle.members).intersection(group.survivor_set.survivors))


def _withheld(bundle: Bundle, group: Unmasked) -> Withheld:
    return Withheld(
        bundle_id=bundle.bundle_id,
        reason=WithheldReason.VOID if bundle.void else WithheldReason.THIN,
        blocks=bundle.blocks,
        survivors=_survivors_of(bundle, group),
        threshold=bundle.threshold,
    )
