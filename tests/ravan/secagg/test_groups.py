"""Rounds of more than 128 sites: groups that follow from the allotments, and sums that add up exactly."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_driver import (
    DENSE,
    Federation,
    head,
    make_assignment,
    only,
    random_blocks,
    refused,
    seeded,
    statistics_of,
)

from ravan.errors import ErrorReason
from ravan.ids import Digest
from ravan.manifest.assignment import MAX_GROUP, Assignment, Weighting
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.secagg.bundles import bundles_of, lay_out, plan_bundles
from ravan.secagg.cells import draw_cells
from ravan.secagg.combine import decode_sums
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort, Phase
from ravan.secagg.effects import Advertise, Mask, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.groups import form_groups
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import RevealRequest, ShareDelivery, SurvivorSet
from ravan.secagg.terms import check_assignment, check_roster
from ravan.secagg.unmask import Unmasked, unmask
from ravan.secagg.vectors import assemble

CLASSES = [(), (0,), (0, 1), (0, 1, 2)]


def check_groups(assignment: Assignment, finishers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    groups = form_groups(assignment, finishers)
    assert sorted(index for group in groups for index in group) == list(finishers)
    assert all(group == tuple(sorted(group)) and 0 < len(group) <= MAX_GROUP for group in groups)
    return groups


def test_up_to_128_finishers_are_one_group() -> None:
    assignment = make_assignment([(0,)] * 200)
    assert check_groups(assignment, tuple(range(0, 200, 2))) == (tuple(range(0, 200, 2)),)
    assert len(check_groups(assignment, tuple(range(128)))) == 1
    assert len(check_groups(assignment, tuple(range(129)))) == 2


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(CLASSES), min_size=129, max_size=500),
    st.integers(3, 32),
)
def test_groups_keep_classes_together_and_lose_no_head_that_one_group_would_release(
    tiles: list[tuple[int, ...]], threshold: int
) -> None:
    assignment = make_assignment(tiles, threshold=threshold)
    groups = check_groups(assignment, tuple(range(len(tiles))))
    assert all(len(group) >= threshold for group in groups)
    classes = [Counter(assignment.members[i].tiles for i in group) for group in groups]
    for tiles_of_class, count in Counter(tiles).items():
        parts = [counted[tiles_of_class] for counted in classes if counted[tiles_of_class]]
        # A class that could be released by itself is never cut so that its upper heads have too few in a group.
        if count >= threshold:
            assert all(part >= threshold for part in parts[:-1])
    trained = {t for mine in tiles for t in mine}
    for tile in trained:
        cohort = sum(tile in mine for mine in tiles)
        released = [
            bundle
            for group in groups
            for bundle in plan_bundles(assignment, group)
            if head(tile) in bundle.blocks and not bundle.void
        ]
        if cohort >= threshold:
            assert released, (tile, cohort)


@settings(max_examples=100, deadline=None)
@given(st.integers(129, 500), st.integers(3, 32))
def test_cells_are_never_divided(members: int, minimum: int) -> None:
    weighting = Weighting(limit=10, unit=1, cell_minimum=minimum, cell_threshold=3)
    tiles = [CLASSES[i * 3 // members + 1] for i in range(members)]
    assignment = make_assignment(tiles, weighting=weighting)
    groups = check_groups(assignment, tuple(range(members)))
    for cell in draw_cells(assignment):
        assert sum(bool(set(cell) & set(group)) for group in groups) == 1


class LargeRound:
    """A round in several groups; members answer through their machines."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.federation = Federation(assignment)
        self.agents = self.federation.agents
        self.coordinator: CoordinatorRound = self.federation.coordinator
        self.payloads: dict[int, bytes] = {}
        self.values: dict[int, dict[object, list[int]]] = {}

    def advertise(self, finishers: Sequence[int]) -> tuple[Roster, ...]:
        for i in finishers:
            self.coordinator.advertised(i, only(self.agents[i].finish_training(), Advertise).advertisement)
        rosters = self.coordinator.close_advertise()
        assert not isinstance(rosters, Abort)
        self.digests = [Digest(seeded("roster", number)) for number in range(len(rosters))]
        self.coordinator.rosters_published(self.digests)
        self.roster_of = {e.index: (r, d) for r, d in zip(rosters, self.digests, strict=True) for e in r.entries}
        return rosters

    def share(self, sharers: Sequence[int]) -> dict[int, ShareDelivery]:
        for i in sharers:
            self.coordinator.shares(i, only(self.agents[i].roster(*self.roster_of[i]), SendShares).shares)
        deliveries = self.coordinator.close_sharing()
        assert isinstance(deliveries, dict)
        return deliveries

    def upload(self, deliveries: dict[int, ShareDelivery], uploaders: Sequence[int]) -> dict[int, SurvivorSet]:
        for i in uploaders:
            job = only(self.agents[i].deliver(deliveries[i]), Mask).job
            blocks, roster = random_blocks(self.assignment, i), self.roster_of[i][0]
            self.values[i] = {block: quantised.values.tolist() for block, quantised in blocks.items()}
            vectors = {
                bundle.bundle_id: assemble(lay_out(self.assignment, bundle), blocks, statistics_of(i))
                for bundle in bundles_of(roster.bundles, i)
            }
            self.payloads[i] = bytes(mask_vectors(job, vectors))
            sha256 = Digest(hashlib.sha256(self.payloads[i]).digest())
            self.coordinator.uploaded(i, only(self.agents[i].masked(sha256, len(self.payloads[i])), Upload).header)
        survivors = self.coordinator.close_upload()
        assert isinstance(survivors, dict)
        return survivors

    def confirm(self, survivors: dict[int, SurvivorSet]) -> dict[int, RevealRequest]:
        for i, chosen in survivors.items():
            self.coordinator.survivor_signature(i, only(self.agents[i].survivors(chosen), SignSurvivors).signature)
        requests = self.coordinator.close_confirmation()
        assert isinstance(requests, dict)
        return requests

    def reveal(self, requests: dict[int, RevealRequest], revealers: Sequence[int]) -> list[Unmasked]:
        for i in revealers:
            self.coordinator.revealed(i, only(self.agents[i].reveal(requests[i]), SendReveal).shares)
        jobs = self.coordinator.close_reveal()
        assert not isinstance(jobs, Abort)
        return [unmask(job, lambda index: io.BytesIO(self.payloads[index])) for job in jobs]


def test_300_agents_in_groups_add_up_exactly_with_losses_at_each_step() -> None:
    """Each step loses a tenth of the agents; the sum is that of the survivors of all groups."""
    tiles = [CLASSES[1 + i % 3] for i in range(300)]
    large = LargeRound(make_assignment(tiles, threshold=8, lengths=(5, 3, 4), dense=3))
    lost = [{i for i in range(300) if i % 40 == step} for step in range(4)]
    finishers = [i for i in range(300) if i not in lost[0]]
    rosters = large.advertise(finishers)
    assert len(rosters) == 3
    assert all(len(roster.entries) <= MAX_GROUP for roster in rosters)
    deliveries = large.share([i for i in finishers if i not in lost[1]])
    uploaders = [i for i in deliveries if i not in lost[2]]
    requests = large.confirm(large.upload(deliveries, uploaders))
    results = large.reveal(requests, [i for i in requests if i not in lost[3]])
    total = decode_sums(large.assignment, results, Denominator.TRAINERS)
    assert total.survivors == tuple(sorted(uploaders))
    assert total.statistics.examples == sum(statistics_of(i).examples for i in uploaders)
    limit = large.assignment.quantum_limit
    assert limit == ((1 << 23) - 1) // 128
    for spec in large.assignment.blocks:
        trainers = [i for i in uploaders if spec.block_id in large.assignment.blocks_of(i)]
        plain = [sum(column) for column in zip(*(large.values[i][spec.block_id] for i in trainers), strict=True)]
        found = total.blocks[spec.block_id]
        assert found.total.tolist() == plain
        assert found.count == len(trainers)
        # one division over all groups, in Python's own arithmetic
        assert found.mean.tolist() == [value * spec.clip / (limit * len(trainers)) for value in plain]
    assert total.withheld == ()


def two_groups() -> LargeRound:
    """130 members in two groups of 65; the first trains one tile, the second two."""
    return LargeRound(make_assignment([(0,)] * 65 + [(0, 1)] * 65, threshold=3, lengths=(2, 2), dense=2))


def test_a_group_that_misses_its_threshold_is_given_up_and_the_other_goes_on() -> None:
    large = two_groups()
    rosters = large.advertise(range(130))
    first, second = ([entry.index for entry in roster.entries] for roster in rosters)
    assert (first, second) == (list(range(65)), list(range(65, 130)))
    for i in range(22):
        large.coordinator.lost(i)
    # 43 of 65 are left; floor(2 x 65 / 3) + 1 = 44 must be.
    assert large.coordinator.give_up_hopeless() is None
    assert large.coordinator.members == set(second)
    refused(
        ErrorReason.PROTOCOL_VIOLATION,
        lambda: large.coordinator.shares(30, only(large.agents[30].roster(*large.roster_of[30]), SendShares).shares),
        "no part in phase SHARING",
    )
    deliveries = large.share(second)
    results = large.reveal(large.confirm(large.upload(deliveries, second)), second)
    total = decode_sums(large.assignment, results, Denominator.COHORT)
    assert total.survivors == tuple(second)
    assert set(total.blocks) == {DENSE, head(0), head(1)}


def test_a_round_ends_when_its_last_group_is_given_up() -> None:
    large = two_groups()
    large.advertise(range(130))
    for i in range(21):
        large.coordinator.lost(i)
    assert large.coordinator.give_up_hopeless() is None
    assert len(large.coordinator.members) == 130
    for i in range(130):
        large.coordinator.lost(i)
    abort = large.coordinator.give_up_hopeless()
    assert isinstance(abort, Abort)
    assert (abort.phase, abort.answered, abort.needed) == (Phase.SHARING, 0, 44)
    assert large.coordinator.phase is Phase.ABORTED


def test_when_all_groups_are_given_up_at_once_the_first_says_why() -> None:
    large = two_groups()
    large.advertise(range(130))
    for i in [*range(30), *range(65, 90)]:
        large.coordinator.lost(i)
    abort = large.coordinator.give_up_hopeless()
    assert isinstance(abort, Abort)
    # 35 of the first 65 are left, 40 of the second.
    assert (abort.phase, abort.answered, abort.needed) == (Phase.SHARING, 35, 44)


def test_a_group_that_closes_too_thin_is_left_behind() -> None:
    large = two_groups()
    large.advertise(range(130))
    deliveries = large.share([*range(43), *range(65, 130)])
    assert set(deliveries) == set(range(65, 130))
    assert large.coordinator.members == set(range(65, 130))


def test_a_roster_of_more_than_a_group_is_refused_by_agents() -> None:
    assignment = make_assignment([(0,)] * 130, lengths=(2,))
    federation = Federation(assignment)
    entries = tuple(only(federation.agents[i].finish_training(), Advertise).advertisement for i in range(129))
    roster = Roster(
        assignment_digest=federation.digest,
        entries=entries,
        threshold=2 * 129 // 3 + 1,
        bundles=plan_bundles(assignment, range(129)),
    )
    refused(
        ErrorReason.PROTOCOL_VIOLATION,
        lambda: check_roster(assignment, federation.digest, roster, entries[0]),
        "at most 128 members, not 129",
    )


@pytest.mark.parametrize("threshold", [32, 33])
def test_a_threshold_that_groups_could_not_keep_is_refused_when_the_round_is_planned(threshold: int) -> None:
    assignment = make_assignment([(0,)] * 129, threshold=threshold)
    if threshold == 32:
        check_assignment(assignment)
    else:
        refused(ErrorReason.PROTOCOL_VIOLATION, lambda: check_assignment(assignment), "32 is the most")


@pytest.mark.parametrize(("members", "sizes"), [(375, [125] * 3), (376, [94] * 4)])
def test_a_uniform_group_leaves_room_for_the_threshold(members: int, sizes: list[int]) -> None:
    # 128 less the threshold of 3 by which an edge may move: 125 at the most before it moves.
    groups = form_groups(make_assignment([(0,)] * members), tuple(range(members)))
    assert [len(group) for group in groups] == sizes


@pytest.mark.parametrize(
    ("members", "finishers", "sizes"),
    [
        (246, 246, [120, 126]),
        (252, 252, [84] * 3),
        (372, 372, [90, 96, 90, 96]),
        (252, 249, None),
    ],
)
def test_a_weighted_group_leaves_room_for_its_largest_cell(
    members: int, finishers: int, sizes: list[int] | None
) -> None:
    # Cells of 6: an edge moves by 5 at the most, so 128 - 5 = 123 is the most before it moves.
    weighting = Weighting(limit=10, unit=1, cell_minimum=6, cell_threshold=3)
    assignment = make_assignment([(0,)] * members, weighting=weighting)
    gone = draw_cells(assignment)[0][: members - finishers]
    groups = form_groups(assignment, tuple(index for index in range(members) if index not in gone))
    if sizes is None:  # one cell is thinner; the largest counts: 249 in three groups, not two
        assert len(groups) == 3
    else:
        assert [len(group) for group in groups] == sizes


def test_edges_move_to_the_start_of_a_class_only_to_avoid_a_sliver() -> None:
    first, second = make_assignment([(0,)] * 97 + [(0, 1)] * 103), make_assignment([(0,)] * 98 + [(0, 1)] * 102)
    everyone = tuple(range(200))
    # Wished is 100: three of the second class before it can be released by themselves, two cannot.
    assert [len(group) for group in form_groups(first, everyone)] == [100, 100]
    assert [len(group) for group in form_groups(second, everyone)] == [98, 102]


def test_edges_of_weighted_groups_keep_to_cells_alone() -> None:
    weighting = Weighting(limit=10, unit=1, cell_minimum=6, cell_threshold=3)
    assignment = make_assignment([(0,)] * 114 + [(0, 1)] * 132, threshold=8, weighting=weighting)
    assert [len(group) for group in form_groups(assignment, tuple(range(246)))] == [120, 126]


def test_no_group_is_empty_when_cells_are_larger_than_its_share() -> None:
    weighting = Weighting(limit=10, unit=1, cell_minimum=32, cell_threshold=3)
    assignment = make_assignment([(0,)] * 63 + [(0, 1)] * 63 + [(0, 1, 2)] * 32, weighting=weighting)
    finishers = (*range(126), *range(126, 136))
    assert [len(group) for group in check_groups(assignment, finishers)] == [63, 73]


@pytest.mark.parametrize(("members", "threshold"), [(128, 33), (128, 128), (3, 3)])
def test_a_round_in_one_group_may_ask_for_any_threshold(members: int, threshold: int) -> None:
    check_assignment(make_assignment([(0,)] * members, threshold=threshold))


def test_a_roster_of_128_is_accepted() -> None:
    federation = Federation(make_assignment([(0,)] * 128, lengths=(2,)))
    roster = federation.advertise(range(128))
    assert isinstance(roster, Roster)
    check_roster(federation.assignment, federation.digest, roster, roster.entries[0])


def test_each_group_needs_the_digest_of_its_roster() -> None:
    large = LargeRound(make_assignment([(0,)] * 130, lengths=(2,)))
    for i in range(130):
        large.coordinator.advertised(i, only(large.agents[i].finish_training(), Advertise).advertisement)
    assert not isinstance(large.coordinator.close_advertise(), Abort)
    for digests in ([Digest(seeded(0))], [Digest(seeded(i)) for i in range(3)]):
        with pytest.raises(ValueError, match="zip"):
            large.coordinator.rosters_published(digests)
