"""Grouping of blocks by cohort, and the coordinates of a bundle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import DENSE, head, make_assignment

from ravan.secagg.bundles import approved_bundles, bundles_of, lay_out, plan_bundles, shamir_threshold

LIMBS = 8
"""Two, four and two limbs of 16 bits: examples, loss, right answers."""

TILES = [(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1), (0,)]


def test_thresholds_of_the_design() -> None:
    losses = {n: n - shamir_threshold(n) for n in (3, 4, 5, 6, 7, 8, 9, 12, 100)}
    assert losses == {3: 0, 4: 1, 5: 1, 6: 1, 7: 2, 8: 2, 9: 2, 12: 3, 100: 33}


def test_heads_with_one_cohort_share_a_bundle() -> None:
    assignment = make_assignment([(0, 1, 2)] * 3 + [(1,)])
    plan = plan_bundles(assignment, range(4))
    assert [(b.bundle_id, b.blocks, b.members) for b in plan] == [
        (0, (DENSE,), (0, 1, 2, 3)),
        (1, (head(0), head(2)), (0, 1, 2)),
        (2, (head(1),), (0, 1, 2, 3)),
    ]


def test_cohorts_are_counted_among_finishers_and_thin_ones_are_void() -> None:
    plan = plan_bundles(make_assignment(TILES), (0, 1, 3, 4))
    assert [(b.blocks, b.members, b.void) for b in plan] == [
        ((DENSE,), (0, 1, 3, 4), False),
        ((head(0),), (0, 1, 3, 4), False),
        ((head(1),), (0, 1, 3), False),
        ((head(2),), (0, 1), True),
    ]
    assert [b.bundle_id for b in bundles_of(plan, 0)] == [0, 1, 2]
    assert [b.bundle_id for b in bundles_of(plan, 4)] == [0, 1]


def test_a_block_that_nobody_trains_is_in_no_bundle() -> None:
    plan = plan_bundles(make_assignment([(0,), (0,), (0,), (0, 1)]), (0, 1, 2))
    assert {block for b in plan for block in b.blocks} == {DENSE, head(0)}


@given(st.sets(st.integers(0, 4)))
def test_approval_counts_survivors_of_the_cohort(survivors: set[int]) -> None:
    assignment = make_assignment(TILES)
    plan = plan_bundles(assignment, range(5))
    expected = tuple(b.bundle_id for b in plan if sum(m in survivors for m in b.members) >= 3)
    assert approved_bundles(assignment, plan, survivors) == expected


def test_layout_of_the_common_bundle() -> None:
    assignment = make_assignment(TILES, dense=6)
    layout = lay_out(assignment, plan_bundles(assignment, range(5))[0])
    assert layout.canaries == (0, 1 + LIMBS + 6 + 1)
    assert layout.statistics == slice(1, 1 + LIMBS)
    assert [(s.block_id, s.offset, s.length, s.flag) for s in layout.slots] == [(DENSE, 1 + LIMBS, 6, 1 + LIMBS + 6)]
    assert layout.length == 20


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_every_coordinate_of_a_head_bundle_has_one_meaning(lengths: list[int]) -> None:
    assignment = make_assignment([tuple(range(len(lengths)))] * 3, lengths=lengths)
    layout = lay_out(assignment, plan_bundles(assignment, range(3))[1])
    places = [*layout.canaries]
    for slot in layout.slots:
        places += [*range(slot.offset, slot.flag), slot.flag]
    assert sorted(places) == list(range(layout.canaries[1] + 1))
    assert layout.length % 4 == 0
    assert 0 <= layout.length - len(places) < 4
