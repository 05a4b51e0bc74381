"""The weighted profile: who is drawn with whom, what is released, and means that count by the size of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_driver import DENSE, Federation, head, make_assignment, refused
from test_quantised_updates import run_updates
from test_whole_rounds import check_exact

from ravan.errors import ErrorReason
from ravan.manifest.assignment import Assignment, Weighting
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.quantisation import site_weight
from ravan.secagg.bundles import approved_bundles, lay_out, plan_bundles
from ravan.secagg.cells import CELL_ROUNDS, draw_cells, leave_thin_cells_out
from ravan.secagg.combine import decode_sums
from ravan.secagg.coordinator_states import Abort, AbortReason
from ravan.secagg.statistics import NOTHING
from ravan.secagg.terms import check_assignment

TERMS = Weighting(limit=10, unit=8, cell_minimum=3, cell_threshold=3)


def weighted(tiles: Sequence[Sequence[int]], terms: Weighting = TERMS, **settings: int) -> Assignment:
    return make_assignment(tiles, weighting=terms, **settings)  # type: ignore[arg-type]


TWO_CLASSES = weighted([(0, 1, 2)] * 4 + [(0,)] * 4)


def test_cells_divide_classes_into_as_many_parts_as_they_fill() -> None:
    cells = draw_cells(weighted([(0, 1, 2)] * 7 + [(0,)] * 4))
    assert sorted(index for cell in cells for index in cell) == list(range(11))
    assert sorted(map(len, cells)) == [3, 4, 4]
    assert all(len({index < 7 for index in cell}) == 1 for cell in cells)
    assert draw_cells(make_assignment([(0,)] * 9)) == ()


def test_the_draw_depends_on_identities_and_the_period_alone() -> None:
    assignment = weighted([(0,)] * 12)
    first = draw_cells(assignment)
    assert draw_cells(replace(assignment, round_number=CELL_ROUNDS - 1, state_digest=assignment.plan_digest)) == first
    assert draw_cells(replace(assignment, round_number=CELL_ROUNDS)) != first
    # The coordinator numbers the members; who is with whom must not follow from the numbers.
    shuffled = [assignment.members[i] for i in (5, 11, 0, 7, 2, 9, 4, 1, 10, 3, 8, 6)]
    renumbered = replace(assignment, members=tuple(replace(m, index=i) for i, m in enumerate(shuffled)))
    assert named(renumbered) == named(assignment)


def named(assignment: Assignment) -> set[frozenset[str]]:
    return {frozenset(assignment.members[index].site for index in cell) for cell in draw_cells(assignment)}


def test_a_thin_cell_withholds_every_bundle_that_it_is_in() -> None:
    everyone = tuple(range(8))
    plan = plan_bundles(TWO_CLASSES, everyone)
    assert [(b.blocks, b.members, b.void) for b in plan] == [
        ((DENSE,), everyone, False),
        ((head(0),), everyone, False),
        ((head(1), head(2)), (0, 1, 2, 3), False),
    ]
    assert approved_bundles(TWO_CLASSES, plan, everyone) == (0, 1, 2)
    assert approved_bundles(TWO_CLASSES, plan, (0, 1, 2, 5, 6, 7)) == (0, 1, 2)
    # Two of the weak class are left: what they are in would tell their weight, by subtraction.
    assert approved_bundles(TWO_CLASSES, plan, (0, 1, 2, 3, 6, 7)) == (2,)
    assert approved_bundles(TWO_CLASSES, plan, (0, 1, 4, 5, 6, 7)) == ()
    assert approved_bundles(TWO_CLASSES, plan, (0, 1, 2, 3)) == (0, 1, 2)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([(0,), (0, 1)]), st.sampled_from([(), (0, 1), (1, 2)])), min_size=9, max_size=20)
    | st.lists(st.tuples(st.sampled_from([(0,), (0, 1), (0, 1, 2)]), st.just(())), min_size=9, max_size=20),
    st.data(),
)
def test_no_combination_of_released_weights_is_about_fewer_than_a_cell(
    drawn: list[tuple[tuple[int, ...], tuple[int, ...]]], data: st.DataObject
) -> None:
    """Subtracting any released bundle from any other leaves whole surviving cells: none, or three sites and more."""
    allotments = [mine for mine in drawn if drawn.count(mine) >= TERMS.cell_minimum]
    if len(allotments) < 3:
        return
    assignment = make_assignment(
        [tiles for tiles, _ in allotments], weighting=TERMS, scored=[scored for _, scored in allotments]
    )
    plan = plan_bundles(assignment, range(len(allotments)))
    survivors = data.draw(st.sets(st.integers(0, len(allotments) - 1)))
    released = approved_bundles(assignment, plan, survivors)
    cohorts = [frozenset(plan[bundle].members) & survivors for bundle in released]
    for one, other in combinations([*cohorts, frozenset()], 2):
        for left in (one - other, other - one):
            assert not left or len(left) >= TERMS.cell_threshold
            touched = [cell for cell in draw_cells(assignment) if left & set(cell)]
            assert left == frozenset(i for cell in touched for i in cell if i in survivors)


def test_members_of_a_thin_cell_are_left_out_before_keys_are_agreed() -> None:
    assert leave_thin_cells_out(TWO_CLASSES, (0, 1, 2, 3, 6, 7)) == (0, 1, 2, 3)
    assert leave_thin_cells_out(TWO_CLASSES, (0, 1, 2, 5, 6, 7)) == (0, 1, 2, 5, 6, 7)
    federation = Federation(TWO_CLASSES)
    roster = federation.advertise((0, 1, 2, 3, 6, 7))
    assert isinstance(roster, Roster)
    assert [entry.index for entry in roster.entries] == [0, 1, 2, 3]
    assert federation.coordinator.members == {0, 1, 2, 3}


def test_a_round_whose_bundles_are_all_thin_aborts() -> None:
    federation = Federation(weighted([(0,)] * 7))
    everyone = tuple(range(7))
    federation.advertise(everyone)
    deliveries = federation.share(everyone)
    assert isinstance(deliveries, dict)
    small = min(draw_cells(federation.assignment), key=len)
    ended = federation.upload(deliveries, [i for i in everyone if i != small[0]])
    assert isinstance(ended, Abort)
    assert ended.reason is AbortReason.NO_BUNDLE
    assert "No bundle" in str(ended)


@pytest.mark.parametrize("ring_bits", [16, 24, 32])
def test_weighted_rounds_are_exact(ring_bits: int) -> None:
    federation = Federation(weighted([(0, 1, 2)] * 4 + [(0,)] * 4, ring_bits=ring_bits))
    everyone = tuple(range(8))
    # One survivor less in each cell leaves the threshold in both.
    uploaders = (0, 1, 2, 5, 6, 7)
    check_exact(federation, (everyone, everyone, uploaders, uploaders))


def test_means_count_sites_by_their_examples() -> None:
    federation = Federation(TWO_CLASSES)
    assignment = federation.assignment
    held = {i: (1, 8, 9, 40, 72, 80, 81, 10_000)[i] for i in range(8)}
    # 8 examples make one unit, rounded up; ten units are the most.
    weights = [1, 1, 2, 5, 9, 10, 10, 10]
    assert [site_weight(assignment, held[i]) for i in range(8)] == weights
    assert site_weight(assignment, 0) == 1
    assert site_weight(make_assignment([(0,)] * 3), 10_000) == 1
    specs = {spec.block_id: spec for spec in assignment.blocks}
    updates = {
        i: {
            block: np.random.default_rng([i, spec.length]).uniform(-0.1, 0.1, spec.length)
            for block, spec in specs.items()
        }
        for i in range(8)
    }
    result = decode_sums(assignment, [run_updates(federation, updates, held)], Denominator.TRAINERS)
    for block, found in result.blocks.items():
        trainers = [i for i in range(8) if block in assignment.blocks_of(i)]
        total = sum(weights[i] for i in trainers)
        expected = np.average([updates[i][block] for i in trainers], axis=0, weights=[weights[i] for i in trainers])
        assert (found.count, found.weight) == (len(trainers), total)
        step = specs[block].clip / assignment.quantum_limit
        bound = step * len(trainers) * TERMS.limit / total
        assert np.abs(found.mean - expected).max() <= bound * (1 + 2.0**-20)


def test_a_withheld_common_bundle_leaves_no_statistics_and_the_other_bundles() -> None:
    federation = Federation(TWO_CLASSES)
    everyone, uploaders = tuple(range(8)), (0, 1, 2, 3, 6, 7)
    check_exact_but_thin = federation.run(
        finishers=everyone, sharers=everyone, uploaders=uploaders, revealers=uploaders
    )
    result = decode_sums(federation.assignment, [check_exact_but_thin], Denominator.TRAINERS)
    assert list(result.blocks) == [head(1), head(2)]
    assert result.statistics == NOTHING
    assert {w.bundle_id for w in result.withheld} == {0, 1}


def test_a_weight_that_no_honest_site_has_is_refused() -> None:
    federation = Federation(TWO_CLASSES)
    everyone = tuple(range(8))
    result = federation.run(finishers=everyone, sharers=everyone, uploaders=everyone, revealers=everyone)
    assert federation.roster is not None
    place = lay_out(TWO_CLASSES, federation.roster.bundles[0]).weight
    assert place == slice(1, 2)
    for wrong in (7, 8 * TERMS.limit + 1):
        result.sums[0][place] = wrong
        refused(
            ErrorReason.PROTOCOL_VIOLATION,
            lambda: decode_sums(TWO_CLASSES, [result], Denominator.TRAINERS),
            "none that 8 honest sites",
        )


@pytest.mark.parametrize(
    ("terms", "reason", "match"),
    [
        (replace(TERMS, cell_threshold=2), ErrorReason.THRESHOLD_MISSED, "cells of 2 sites; this site asks for 3"),
        (replace(TERMS, cell_minimum=2), ErrorReason.PROTOCOL_VIOLATION, "at least as many members"),
        (replace(TERMS, cell_minimum=33), ErrorReason.PROTOCOL_VIOLATION, "32 at the most, not 33"),
        (replace(TERMS, cell_minimum=5), ErrorReason.PROTOCOL_VIOLATION, "too small for a cell of 5"),
        (replace(TERMS, limit=0), ErrorReason.PROTOCOL_VIOLATION, "no positive limit or unit"),
        (replace(TERMS, unit=0), ErrorReason.PROTOCOL_VIOLATION, "no positive limit or unit"),
    ],
)
def test_terms_that_protect_nobody_are_refused(terms: Weighting, reason: ErrorReason, match: str) -> None:
    refused(reason, lambda: check_assignment(replace(TWO_CLASSES, weighting=terms)), match)


def test_a_site_may_ask_for_larger_cells() -> None:
    assignment = replace(TWO_CLASSES, bundle_threshold=4)
    refused(ErrorReason.THRESHOLD_MISSED, lambda: check_assignment(assignment, 4), "cells of 3 sites")
    check_assignment(replace(assignment, weighting=replace(TERMS, cell_threshold=4, cell_minimum=4)), 4)


def test_one_class_that_is_too_small_is_enough_to_refuse() -> None:
    uneven = weighted([(0, 1, 2)] * 4 + [(0,)] * 3, replace(TERMS, cell_minimum=4))
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(uneven), "too small for a cell of 4")


def test_cells_of_32_may_be_asked_for() -> None:
    check_assignment(weighted([(0,)] * 32, replace(TERMS, cell_minimum=32)))


def test_cells_stay_for_20_rounds() -> None:
    draws = [draw_cells(replace(weighted([(0,)] * 12), round_number=number)) for number in (0, 19, 20, 39, 40)]
    assert draws[0] == draws[1] != draws[2] == draws[3] != draws[4]


def test_a_roster_with_a_thin_cell_voids_its_bundles_for_good() -> None:
    """A coordinator that leaves a thin cell in gets nothing with its weight: not even when the cell is lost later."""
    plan = plan_bundles(TWO_CLASSES, (0, 1, 2, 3, 6, 7))
    assert [(b.members, b.void) for b in plan] == [
        ((0, 1, 2, 3, 6, 7), True),
        ((0, 1, 2, 3, 6, 7), True),
        ((0, 1, 2, 3), False),
    ]
    assert approved_bundles(TWO_CLASSES, plan, (0, 1, 2, 3)) == (2,)
