"""The sum of a round's updates by the product's quantisation and decoding; masks, which cancel in it, are optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.training.outcome import TrainingOutcome
from lab.methods.ravan.masked_sum import Quantise, sum_masked
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Bundle, Roster
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
    *,
    masked: bool = False,
) -> RoundSum:
    """Return what the coordinator would decode if all members finished and uploaded."""

    def quantise(index: int, bundles: tuple[Bundle, ...]) -> Mapping[int, Elements]:
        outcome = outcomes[index]
        return quantise_update(
            assignment,
            bundles,
            outcome.deltas,
            outcome.statistics,
            roundings[index],
            held_examples=outcome.held_examples,
        )

    tally = RoundTally(assignment)
    tally.add((sum_masked if masked else _sum_plainly)(assignment, quantise))
    return tally.divide(denominator)


def _sum_plainly(assignment: Assignment, quantise: Quantise) -> Unmasked:
    members = tuple(member.index for member in assignment.members)
    bundles = plan_bundles(assignment, members)
    sums: dict[int, Elements] = {}
    for index in members:
        _add(sums, quantise(index, bundles_of(bundles, index)), assignment.ring_bits)
    return Unmasked(
        roster=Roster(
            assignment_digest=Digest(bytes(32)), entries=(), threshold=shamir_threshold(len(members)), bundles=bundles
        ),
        survivor_set=SurvivorSet(survivors=members, bundles=approved_bundles(assignment, bundles, members)),
        sums=sums,
        suspects=(),
    )


def _add(sums: dict[int, Elements], vectors: Mapping[int, Elements], ring_bits: int) -> None:
    for bundle, vector in vectors.items():
        total = sums.setdefault(bundle, np.zeros(len(vector), RING))
        total += vector
        total &= modulus_mask(ring_bits)
