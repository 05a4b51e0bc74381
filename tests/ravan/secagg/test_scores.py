"""Scores of heads: who sends which, where they lie, and what their sums say, against plain integers."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_driver import (
    DENSE,
    Federation,
    head,
    make_assignment,
    random_blocks,
    refused,
    scores_of,
    statistics_of,
)

from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.manifest.assignment import RING_WIDTHS, Assignment, Weighting
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Bundle, Roster
from ravan.secagg.bundles import approved_bundles, bundles_of, lay_out, plan_bundles
from ravan.secagg.combine import decode_sums
from ravan.secagg.messages import SurvivorSet
from ravan.secagg.scores import encode_scores, score_limit
from ravan.secagg.unmask import Unmasked
from ravan.secagg.vectors import assemble, read_scores

HEADS = [head(i) for i in range(5)]
SCORES = st.lists(st.floats(0, 1), min_size=len(HEADS), max_size=len(HEADS))
LARGEST = {16: 255, 24: 65535, 32: 65535}
"""What a score of 1 becomes: the largest number of 8 bits in the smallest ring, else of 16."""

TILES = st.sets(st.integers(0, 2)).map(lambda chosen: tuple(sorted(chosen)))
ALLOTMENTS = st.lists(st.tuples(TILES, TILES), min_size=3, max_size=9)


def scorers_by_hand(assignment: Assignment, block: BlockId, present: set[int]) -> tuple[int, ...]:
    tile = next(tile.tile_id for tile in assignment.tiles if block in tile.blocks)
    return tuple(m.index for m in assignment.members if tile in m.scored_tiles and m.index in present)


def assignment_of(allotments: list[tuple[tuple[int, ...], tuple[int, ...]]], **changes: int) -> Assignment:
    trained, scored = zip(*allotments, strict=True)
    return make_assignment(trained, scored=scored, **changes)  # type: ignore[arg-type]


@given(st.lists(SCORES, min_size=1, max_size=128), st.sampled_from(RING_WIDTHS))
def test_means_of_up_to_128_sites(sites: list[list[float]], ring_bits: int) -> None:
    rows = [encode_scores(dict(zip(HEADS, scores, strict=True)), HEADS, ring_bits) for scores in sites]
    limit = LARGEST[ring_bits]
    assert score_limit(ring_bits) == limit
    for position, column in enumerate(zip(*rows, strict=True)):
        assert sum(column) < 2**ring_bits
        assert 0 <= min(column) <= max(column) <= limit
        exact = sum((Fraction(scores[position]) for scores in sites), Fraction(0)) / len(sites)
        # Each score is off by half a step at the most.
        assert abs(Fraction(sum(column), limit * len(sites)) - exact) <= Fraction(1001, 2000 * limit)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.001, 1.001])
def test_a_score_that_is_no_share_is_not_sent(score: float) -> None:
    with pytest.raises(DataError) as caught:
        encode_scores({HEADS[0]: 1.0, HEADS[1]: score}, HEADS[:2], 24)
    assert caught.value.reason is ErrorReason.MALFORMED
    assert caught.value.next_step


def test_a_vector_is_not_made_without_a_score_that_it_carries() -> None:
    assignment = make_assignment([(0,)] * 3, scored=[(0, 1)] * 3)
    layout = lay_out(assignment, plan_bundles(assignment, range(3))[0])
    blocks = random_blocks(assignment, 0)
    refused(
        ErrorReason.MALFORMED, lambda: assemble(layout, blocks, statistics_of(0), scores={head(0): 1.0}), "no score"
    )


@given(ALLOTMENTS, st.data())
def test_every_score_travels_once_with_exactly_those_who_give_it(
    allotments: list[tuple[tuple[int, ...], tuple[int, ...]]], data: st.DataObject
) -> None:
    assignment = assignment_of(allotments)
    present = data.draw(st.sets(st.integers(0, len(allotments) - 1), min_size=1))
    plan = plan_bundles(assignment, sorted(present))
    for block in (head(0), head(1), head(2)):
        scorers = scorers_by_hand(assignment, block, present)
        carrying = [bundle for bundle in plan if block in bundle.scored]
        assert [bundle.members for bundle in carrying] == ([scorers] if scorers else [])
        if scorers == tuple(sorted(present)):
            assert carrying[0].bundle_id == 0
    assert [bundle.bundle_id for bundle in plan] == list(range(len(plan)))
    cohorts = [bundle.members for bundle in plan[1:]]
    assert len(set(cohorts)) == len(cohorts)
    # Where nobody scores, everything is as it always was.
    silent = replace(assignment, members=tuple(replace(m, scored_tiles=()) for m in assignment.members))
    blocks = [(bundle.blocks, bundle.members, bundle.void) for bundle in plan if bundle.blocks or not bundle.bundle_id]
    assert [(each.blocks, each.members, each.void) for each in plan_bundles(silent, sorted(present))] == blocks


@given(ALLOTMENTS, st.data())
def test_no_released_score_is_about_fewer_sites_than_a_block_may_be(
    allotments: list[tuple[tuple[int, ...], tuple[int, ...]]], data: st.DataObject
) -> None:
    assignment = assignment_of(allotments)
    present = data.draw(st.sets(st.integers(0, len(allotments) - 1), min_size=3))
    survivors = data.draw(st.sets(st.sampled_from(sorted(present))))
    plan = plan_bundles(assignment, sorted(present))
    released = {block for bundle in approved_bundles(assignment, plan, survivors) for block in plan[bundle].scored}
    enough = {b for b in (head(0), head(1), head(2)) if len(scorers_by_hand(assignment, b, survivors)) >= 3}
    assert released == enough


def vector_by_hand(assignment: Assignment, bundle: Bundle, index: int, weight: int) -> list[int]:
    """Check value, weight, statistics, scores, blocks with their flags, check value, zeros."""
    width, figures = {16: 8, 24: 16, 32: 16}[assignment.ring_bits], statistics_of(index)
    numbers = [1] + ([] if assignment.weighting is None else [weight])
    if bundle.bundle_id == 0:
        for value, bits in ((figures.examples, 32), (int(figures.loss_sum * 2**20), 64), (figures.correct, 32)):
            numbers += [value // 2**at % 2**width for at in range(0, bits, width)]
    for block in (spec.block_id for spec in assignment.blocks):
        if block in bundle.scored:
            numbers.append(int(Fraction(scores_of(assignment, index)[block]) * (2**width - 1) + Fraction(1, 2)))
    for block in bundle.blocks:
        quantised = random_blocks(assignment, index)[block]
        numbers += [int(value) % 2**assignment.ring_bits for value in quantised.values] + [int(quantised.clipped)]
    numbers.append(1)
    return numbers + [0] * (-len(numbers) % 4)


@settings(deadline=None)
@given(ALLOTMENTS, st.sampled_from(RING_WIDTHS), st.booleans())
def test_vectors_are_laid_out_as_a_second_implementation_lays_them_out(
    allotments: list[tuple[tuple[int, ...], tuple[int, ...]]], ring_bits: int, weighs: bool
) -> None:
    terms = Weighting(limit=9, unit=1, cell_minimum=3, cell_threshold=3) if weighs else None
    assignment = replace(assignment_of(allotments, ring_bits=ring_bits), weighting=terms)
    for bundle in plan_bundles(assignment, range(len(allotments))):
        for index in bundle.members:
            layout = lay_out(assignment, bundle)
            scores = scores_of(assignment, index)
            vector = assemble(layout, random_blocks(assignment, index), statistics_of(index), index + 1, scores)
            assert vector.tolist() == vector_by_hand(assignment, bundle, index, index + 1)
            assert len(vector) == layout.length
            sent = read_scores(layout, vector)
            assert sent.keys() == set(bundle.scored)


SCORED = [(0, 1, 2)] * 4 + [(0, 1)] * 2 + [(0,)] * 2


@pytest.mark.parametrize("ring_bits", RING_WIDTHS)
def test_sums_of_a_whole_round_with_losses(ring_bits: int) -> None:
    assignment = make_assignment([(0, 2)] * 4 + [(1,)] * 4, scored=SCORED, ring_bits=ring_bits)
    federation = Federation(assignment)
    survivors = (0, 1, 4, 5, 6, 7)
    result = federation.run(finishers=range(8), sharers=(0, 1, 2, 4, 5, 6, 7), uploaders=survivors, revealers=survivors)
    total = decode_sums(assignment, [result], Denominator.TRAINERS)
    # Tile 2 is scored by four, of whom two are left.
    assert set(total.scores) == {head(0), head(1)}
    for block, scorers in ((head(0), (0, 1, 4, 5, 6, 7)), (head(1), (0, 1, 4, 5))):
        summed = total.scores[block]
        steps = [round(scores_of(assignment, index)[block] * LARGEST[ring_bits]) for index in scorers]
        assert (summed.total, summed.count) == (sum(steps), len(scorers))
        assert summed.mean == sum(steps) / (LARGEST[ring_bits] * len(scorers))
    assert DENSE in total.blocks


def decoded(value: int, position: int) -> dict[BlockId, float]:
    """Decode a round of three whose sums are 0 but for one element of bundle 0."""
    assignment = make_assignment([(0,)] * 3, scored=[(0, 1)] * 3)
    bundles = plan_bundles(assignment, range(3))
    agreed = Roster(assignment_digest=assignment.plan_digest, entries=(), threshold=3, bundles=bundles)
    sums = {bundle.bundle_id: np.zeros(lay_out(assignment, bundle).length, "<u4") for bundle in bundles}
    sums[0][lay_out(assignment, bundles[0]).scores.start + position] = value
    survivors = SurvivorSet(survivors=(0, 1, 2), bundles=tuple(sums))
    group = Unmasked(roster=agreed, survivor_set=survivors, sums=sums, suspects=())
    return {block: score.mean for block, score in decode_sums(assignment, [group], Denominator.TRAINERS).scores.items()}


def test_a_score_that_honest_members_cannot_have_is_refused() -> None:
    most = 3 * 65535
    assert decoded(most, 1) == {head(0): 0.0, head(1): 1.0}
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: decoded(most + 1, 1), "honest")
    refused(ErrorReason.PROTOCOL_VIOLATION, lambda: decoded(most + 1, 0), "honest")


def test_groups_are_added_before_the_one_division() -> None:
    assignment = make_assignment([(0,)] * 6, scored=[(0,)] * 6)
    groups = []
    for members, value in (((0, 1, 2), 10), ((3, 4, 5), 5)):
        bundles = plan_bundles(assignment, members)
        roster = Roster(assignment_digest=assignment.plan_digest, entries=(), threshold=3, bundles=bundles)
        sums = {bundle.bundle_id: np.zeros(lay_out(assignment, bundle).length, "<u4") for bundle in bundles}
        sums[0][lay_out(assignment, bundles[0]).scores] = value
        survivors = SurvivorSet(survivors=members, bundles=tuple(sums))
        groups.append(Unmasked(roster=roster, survivor_set=survivors, sums=sums, suspects=()))
    summed = decode_sums(assignment, groups, Denominator.TRAINERS).scores[head(0)]
    assert (summed.total, summed.count, summed.mean) == (15, 6, 15 / (6 * 65535))


def test_members_upload_scores_that_they_alone_share_in_bundles_of_their_own() -> None:
    assignment = make_assignment([(0,)] * 8, scored=SCORED)
    plan = plan_bundles(assignment, range(8))
    assert [(b.blocks, b.scored, len(b.members), b.void) for b in plan] == [
        ((DENSE,), (head(0),), 8, False),
        ((head(0),), (), 8, False),
        ((), (head(1),), 6, False),
        ((), (head(2),), 4, False),
    ]
    assert [bundle.bundle_id for bundle in bundles_of(plan, 0)] == [0, 1, 2, 3]
    assert [bundle.bundle_id for bundle in bundles_of(plan, 7)] == [0, 1]
    assert lay_out(assignment, plan[3]).length == 4
