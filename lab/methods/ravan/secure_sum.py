"""The sum of a round's updates by the product's quantisation and decoding; masks, which cancel in it, are left out.

That masked and plain sums are the same bits is what the product's own tests show (`tests/ravan/secagg`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.training.outcome import TrainingOutcome
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.quantisation import quantise_update
from ravan.secagg.bundles import approved_bundles, bundles_of, plan_bundles, shamir_threshold
from ravan.secagg.combine import RoundSum, RoundTally
from ravan.secagg.messages import SurvivorSet
from ravan.secagg.packing import RING, Elements, modulus_mask
from ravan.secagg.unmask import Unmasked


def sum_updates(
    assignment: Assignment,
    outcomes: Sequence[TrainingOutcome],
    denominator: Denominator,
    roundings: Sequence[np.random.Generator],
) -> RoundSum:
    """Return what the coordinator would decode if all members finished and uploaded."""
    members = tuple(range(len(outcomes)))
    bundles = plan_bundles(assignment, members)
    survivors = SurvivorSet(survivors=members, bundles=approved_bundles(assignment, bundles, members))
    sums: dict[int, Elements] = {}
    for index, (outcome, rounding) in enumerate(zip(outcomes, roundings, strict=True)):
        mine = bundles_of(bundles, index)
        vectors = quantise_update(assignment, mine, outcome.deltas, outcome.statistics, rounding)
        _add(sums, vectors, assignment.ring_bits)
    roster = Roster(
        assignment_digest=Digest(bytes(32)), entries=(), threshold=shamir_threshold(len(members)), bundles=bundles
    )
    tally = RoundTally(assignment)
    tally.add(Unmasked(roster=roster, survivor_set=survivors, sums=sums, suspects=()))
    return tally.divide(denominator)


def _add(sums: dict[int, Elements], vectors: Mapping[int, Elements], ring_bits: int) -> None:
    for bundle, vector in vectors.items():
        total = sums.setdefault(bundle, np.zeros(len(vector), RING))
        total += vector
        total &= modulus_mask(ring_bits)
