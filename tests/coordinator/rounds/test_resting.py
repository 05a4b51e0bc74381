"""Sites that keep failing: who rests, until when, and who says so."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plant import Plant
from test_selection import A, B, C, capacity, lineup, make_job

from coordinator.rounds.resting import LONGEST_REST, OWN_FAULTS, find_rests
from coordinator.rounds.selection import Selection, select
from coordinator.store.records import DropRecord, RoundRecord
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import Train
from ravan.manifest.phases import DropReason, JobState, RoundOutcome, RoundPhase

D = SiteId("d")


def a_round(
    number: int, drops: dict[SiteId, DropReason], *, selected: Sequence[SiteId] = (A, B, C, D), counted: bool = False
) -> RoundRecord:
    """A round that some left; `counted`: only after their updates were in the sum."""
    return RoundRecord(
        job_id=JobId("job"),
        number=number,
        phase=RoundPhase.ENDED,
        outcome=RoundOutcome.COMMITTED,
        started_at=0.0,
        selected=tuple(selected),
        completed=tuple(site for site in selected if counted or site not in drops),
        dropped=tuple(
            DropRecord(site=site, phase=RoundPhase.TRAINING, reason=reason) for site, reason in drops.items()
        ),
    )


def fails(*numbers: int, reason: DropReason = DropReason.DEADLINE) -> list[RoundRecord]:
    return [a_round(number, {D: reason}) for number in numbers]


def without(number: int) -> RoundRecord:
    return a_round(number, {}, selected=(A, B, C))


def test_the_third_failure_in_a_row_costs_a_round_and_each_further_one_twice_as_many() -> None:
    history = fails(1, 2)
    assert find_rests(history) == {}
    history += fails(3)
    rest = find_rests(history)[D]
    assert (rest.until, rest.failures, rest.reason) == (5, 3, DropReason.DEADLINE)
    history.append(without(4))
    assert find_rests(history) == {}
    history += fails(5)
    assert find_rests(history)[D].until == 8
    history += [without(6), without(7)]
    assert find_rests(history) == {}
    history += fails(8)
    assert find_rests(history)[D].until == 13


def test_a_round_that_the_site_finishes_starts_the_count_anew() -> None:
    history = [*fails(1, 2), a_round(3, {}), *fails(4, 5)]
    assert find_rests(history) == {}
    assert D in find_rests([*history, *fails(6)])
    # Its update was in the sum before it was lost.
    assert find_rests([*fails(1, 2), a_round(3, {D: DropReason.DISCONNECTED}, counted=True)]) == {}


def test_what_others_can_bring_about_is_no_fault_of_the_site() -> None:
    innocent = set(DropReason) - OWN_FAULTS
    assert innocent == {DropReason.REFUSED, DropReason.PROTOCOL, DropReason.LEFT, DropReason.GROUP}
    for reason in innocent:
        assert find_rests(fails(1, 2, 3, 4, 5, reason=reason)) == {}
        # Neither a failure nor a success.
        mixed = [*fails(1, 2), *fails(3, reason=reason), *fails(4)]
        assert find_rests(mixed)[D].failures == 3


@given(st.lists(st.sampled_from(["fails", "finishes", "is left out"]), max_size=60))
def test_a_rest_ends_by_itself_and_is_bounded(course: list[str]) -> None:
    history: list[RoundRecord] = []
    rested = 0
    for number, wish in enumerate(course, start=1):
        resting = D in find_rests(history)
        rested = rested + 1 if resting else 0
        assert rested <= LONGEST_REST
        if resting or wish == "is left out":
            history.append(without(number))
        else:
            history.append(a_round(number, {D: DropReason.MEMORY} if wish == "fails" else {}))
    streak = 0
    for record in history:
        if D in record.selected:
            streak = 0 if D in record.completed else streak + 1
    # Whoever has failed fewer than three times in a row does not rest.
    assert streak >= 3 or D not in find_rests(history)


def test_rests_double_up_to_thirty_two_rounds() -> None:
    history: list[RoundRecord] = []
    failed = []
    for number in range(1, 200):
        if D in find_rests(history):
            history.append(without(number))
        else:
            history += fails(number)
            failed.append(number)
    pauses = [after - before - 1 for before, after in itertools.pairwise(failed)]
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 32, 32, 32, 32]


def test_resting_sites_are_left_out_and_named() -> None:
    fleet = dict.fromkeys((A, B, C, D), capacity())
    rests = find_rests(fails(1, 2, 3))
    selection = select(make_job(), lineup(*fleet), fleet, fails(1, 2, 3), {}, rests)
    assert isinstance(selection, Selection)
    assert selection.sites == (A, B, C)
    assert selection.message == "d rests until round 5: it failed 3 times in a row (deadline)."


def test_nobody_rests_where_the_others_are_too_few() -> None:
    fleet = dict.fromkeys((A, B, D), capacity())
    history = fails(1, 2, 3)
    selection = select(make_job(), lineup(*fleet), fleet, history, {}, find_rests(history))
    assert isinstance(selection, Selection)
    assert (selection.sites, selection.message) == ((A, B, D), "")


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_site_that_keeps_failing_rests_and_is_asked_again(tmp_path: Path, restarts: bool) -> None:
    async with Plant(tmp_path) as plant:
        tired = plant.sites[3]
        tired.mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=5)
        for number in (1, 2, 3):
            await plant.until(job_id, lambda d, n=number: len(d.rounds) == n and d.awaited == (tired.name,))  # type: ignore[misc]
            if number == 3:
                # Stay in the fourth round for a while.
                plant.sites[0].mute = {Train}
            plant.timers.advance(1800)
        detail = await plant.until(job_id, lambda detail: len(detail.rounds) == 4)
        await plant.until(job_id, lambda detail: detail.awaited == ("site-0",))
        if restarts:
            await plant.until_acknowledged()
            await plant.restart_daemon()
        detail = await plant.conductor.job_detail(job_id)
        assert detail.rounds[3].selected == ("site-0", "site-1", "site-2")
        assert detail.record.message == "site-3 rests until round 5: it failed 3 times in a row (deadline)."
        if not restarts:
            assert plant.conductor.resting() == {"site-3": "rests from orders until round 5"}
            assert ("resting", "job-orders", 1) in plant.metrics.said
        plant.sites[0].mute, tired.mute = set(), set()
        await plant.sites[0].answer(next(i for i in reversed(plant.sites[0].heard) if isinstance(i, Train)))
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert "site-3" in detail.rounds[4].completed
        assert plant.conductor.resting() == {}


async def test_pause_and_resume_ask_resting_sites_again(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        tired = plant.sites[3]
        tired.mute = {Train}
        await plant.connect_all()
        job_id = await plant.submit(rounds=4)
        for number in (1, 2, 3):
            await plant.until(job_id, lambda d, n=number: len(d.rounds) == n and d.awaited == (tired.name,))  # type: ignore[misc]
            if number == 3:
                await plant.conductor.pause_job(job_id)
            plant.timers.advance(1800)
        await plant.until_ended(job_id, 3)
        tired.mute = set()
        await plant.conductor.resume_job(job_id)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        assert "site-3" in detail.rounds[3].completed
