"""How many sites are asked so that enough finish, and that it is each one's turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plant import Plant

from coordinator.allocation.coverage import CoverageRules, settle_depths
from coordinator.rounds.overselection import WINDOW, choose_members, count_asked, observe_dropout
from coordinator.store.records import DropRecord, RoundRecord
from ravan.ids import JobId, SiteId
from ravan.manifest.assignment import MAX_MEMBERS, Weighting
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase

RULES = CoverageRules(threshold=3)


def names(count: int) -> list[SiteId]:
    return [SiteId(f"s{i:04}") for i in range(count)]


def a_round(
    number: int, selected: Sequence[SiteId], lost: int, outcome: RoundOutcome = RoundOutcome.COMMITTED
) -> RoundRecord:
    """A round that lost the first `lost` of its sites."""
    completed = tuple(selected[lost:]) if outcome is RoundOutcome.COMMITTED else ()
    return RoundRecord(
        job_id=JobId("job"),
        number=number,
        phase=RoundPhase.ENDED,
        outcome=outcome,
        started_at=0.0,
        selected=tuple(selected),
        completed=completed,
        dropped=tuple(
            DropRecord(site=site, phase=RoundPhase.TRAINING, reason=DropReason.DEADLINE) for site in selected[:lost]
        ),
    )


def history(*lost_of: tuple[int, int]) -> list[RoundRecord]:
    return [a_round(number, names(of), lost) for number, (lost, of) in enumerate(lost_of, start=1)]


def test_drop_out_is_what_was_lost_smoothed_by_what_was_expected() -> None:
    assert observe_dropout([]) == pytest.approx(0.1)
    # (3 + 2) of (10 + 20)
    assert observe_dropout(history((3, 10))) == pytest.approx(5 / 30)
    assert observe_dropout(history((0, 100), (20, 80))) == pytest.approx(22 / 200)
    assert observe_dropout(history(*[(100, 100)] * 3)) == 0.5


def test_only_the_newest_rounds_count_and_only_what_sites_brought_about() -> None:
    old, new = [(10, 10)] * 5, [(0, 10)] * WINDOW
    assert observe_dropout(history(*old, *new)) == observe_dropout(history(*new))
    few = a_round(1, names(10), 8, RoundOutcome.TOO_FEW_SITES)
    assert observe_dropout([few]) == pytest.approx(10 / 30)
    for outcome in (RoundOutcome.STOPPED, RoundOutcome.INTERRUPTED, RoundOutcome.INTERNAL):
        assert observe_dropout([a_round(1, names(10), 8, outcome)]) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=15), st.integers(0, 14))
def test_whoever_loses_one_site_more_expects_no_less_drop_out(counts: list[tuple[int, int]], which: int) -> None:
    rounds = [(lost, lost + finished) for lost, finished in counts]
    rate = observe_dropout(history(*rounds))
    assert 0 < rate <= 0.5
    if which < len(rounds) and rounds[which][0] < rounds[which][1]:
        rounds[which] = (rounds[which][0] + 1, rounds[which][1])
        assert observe_dropout(history(*rounds)) >= rate


def test_so_many_are_asked_that_the_target_is_expected_to_finish() -> None:
    assert count_asked(9, 0.1, 0) == 10
    assert count_asked(10, 0.1, 0) == 12
    assert count_asked(3, 0.5, 8) == 8
    assert count_asked(MAX_MEMBERS, 0.1, 0) == MAX_MEMBERS


@given(st.integers(1, MAX_MEMBERS), st.integers(0, 500), st.integers(0, 500), st.integers(0, MAX_MEMBERS))
def test_the_number_asked_is_bounded_and_grows_with_drop_out(target: int, first: int, second: int, least: int) -> None:
    # Rates in thousandths, so that the least number can be told in whole numbers.
    asked = count_asked(target, first / 1000, least)
    assert least <= asked <= MAX_MEMBERS
    enough = asked * (1000 - first) >= target * 1000
    assert enough or asked == MAX_MEMBERS
    if asked > least and enough:
        assert (asked - 1) * (1000 - first) < target * 1000
    if first <= second:
        assert count_asked(target, second / 1000, least) >= asked


@settings(deadline=None)
@given(st.integers(3, 25), st.integers(3, 25), st.lists(st.integers(0, 25), min_size=1, max_size=30))
def test_each_site_is_asked_as_often_as_the_others_however_many_drop_out(
    fleet: int, target: int, losses: list[int]
) -> None:
    depth_of = dict.fromkeys(names(fleet), 4)
    rounds: list[RoundRecord] = []
    for number, lost in enumerate(losses, start=1):
        members = choose_members(depth_of, rounds, target, 3, RULES)
        assert len(members) == min(fleet, count_asked(target, observe_dropout(rounds), 3))
        rounds.append(a_round(number, members, min(lost, len(members))))
        asked = Counter(site for record in rounds for site in record.selected)
        counts = [asked[site] for site in depth_of]
        assert max(counts) - min(counts) <= 1


@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=40),
    st.integers(3, 40),
    st.integers(0, 3),
    st.booleans(),
)
def test_what_the_whole_fleet_can_train_its_members_can(
    depths: list[int], target: int, spare: int, weighted: bool
) -> None:
    weighting = Weighting(limit=255, unit=16, cell_minimum=4, cell_threshold=3) if weighted else None
    rules = CoverageRules(threshold=3, spare=spare, weighting=weighting)
    depth_of = dict(zip(names(len(depths)), depths, strict=True))
    least = 8 if weighted else 3
    members = choose_members(depth_of, [], max(target, least), least, rules)
    assert set(members) <= set(depth_of)
    assert len(members) >= min(least, len(depths))
    if not weighted:
        reached = settle_depths({site: depth_of[site] for site in members}, rules)
        assert max(reached.values()) == max(settle_depths(depth_of, rules).values())


def test_without_a_target_all_take_part() -> None:
    depth_of = dict.fromkeys(names(30), 1)
    assert choose_members(depth_of, [], None, 3, RULES) == tuple(names(30))


async def test_a_job_asks_a_few_more_than_its_target_in_turn(tmp_path: Path) -> None:
    async with Plant(tmp_path, sites=8) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=4, settings={"target_sites": "target_sites = 3"})
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        # 3 / 0.9 are 4.
        assert [len(record.selected) for record in detail.rounds] == [4] * 4
        asked = Counter(site for record in detail.rounds for site in record.selected)
        assert set(asked.values()) == {2}
        assert len(asked) == 8
