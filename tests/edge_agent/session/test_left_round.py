"""A new process of a site whose last one was in a round: it goes on once the job is prepared, or clears it away."""

from __future__ import annotations

import pytest
from session_steps import (
    ENDED,
    LEFT,
    PLAN,
    PREPARE,
    STEPS,
    TERMS,
    assignment,
    digest_of,
    kinds,
    prepared_now,
    result,
    roster,
    train,
)
from tiny_jobs import PLAN_DIGEST

from edge_agent.session.effects import (
    CloseRound,
    DealShares,
    Leave,
    MeetMembers,
    Note,
    RememberRound,
    ReportProfile,
    RevealShares,
    SignSurvivorSet,
    StartTraining,
    UploadMasked,
)
from edge_agent.session.events import (
    AssignmentReceived,
    Event,
    InstructionRefused,
    PreparationFailed,
    StopRequested,
    TimelineChanged,
)
from edge_agent.session.machine import SessionMachine
from ravan.ids import RunId
from ravan.manifest.phases import DropReason


def goes_on(highest: int = 1) -> SessionMachine:
    """A new process of a site whose last one was in round 1."""
    made = SessionMachine(TERMS, {PLAN.run_id: highest}, LEFT)
    made.handle(PREPARE)
    return made


@pytest.mark.parametrize("taken", range(1, 6))
def test_a_round_that_was_left_waits_for_its_job_and_goes_on_from_the_first(taken: int) -> None:
    made = goes_on()
    for event in STEPS[:taken]:
        assert made.handle(event) == ()
    report, *effects = made.handle(prepared_now(PLAN_DIGEST))
    assert isinstance(report, ReportProfile)
    steps = [StartTraining, DealShares, UploadMasked, SignSurvivorSet, RevealShares][:taken]
    assert kinds(tuple(effects)) == [MeetMembers, RememberRound, *steps]
    if taken < 5:
        assert made.handle(STEPS[taken])
    assert kinds(made.handle(result())) == [CloseRound]


def test_a_round_that_was_left_goes_on_at_once_where_its_job_is_prepared() -> None:
    made = goes_on()
    made.handle(prepared_now(PLAN_DIGEST))
    assert kinds(made.handle(train())) == [MeetMembers, RememberRound, StartTraining]
    assert made.handle(train()) == ()


def test_a_left_round_that_is_over_is_cleared_away() -> None:
    gone = (CloseRound(assignment_digest=digest_of(1), outcome=None),)
    assert goes_on().handle(result()) == gone
    made = goes_on()
    made.handle(train())
    assert made.handle(result()) == gone
    assert kinds(made.handle(prepared_now(PLAN_DIGEST))) == [ReportProfile]


def test_the_result_of_an_older_round_ends_no_left_one() -> None:
    made = goes_on()
    assert made.handle(result(run_id=RunId(bytes(16)))) == ()
    made.handle(train())
    assert StartTraining in kinds(made.handle(prepared_now(PLAN_DIGEST)))


def test_a_later_round_clears_the_left_one_away() -> None:
    made = goes_on()
    made.handle(prepared_now(PLAN_DIGEST))
    assert kinds(made.handle(train(2))) == [CloseRound, MeetMembers, RememberRound, StartTraining]


def test_another_assignment_of_the_left_rounds_number_is_not_taken() -> None:
    made = goes_on()
    made.handle(prepared_now(PLAN_DIGEST))
    [note, leave] = made.handle(AssignmentReceived(assignment=assignment(1), digest=digest_of(9)))
    assert (type(note), leave) == (Note, Leave(job_id=PLAN.job_id, round_number=1, reason=DropReason.RESTARTED))


def test_a_left_round_whose_job_cannot_be_prepared_is_left_for_good() -> None:
    made = goes_on()
    made.handle(train())
    made.handle(roster())
    effects = made.handle(PreparationFailed(digest=PLAN_DIGEST, reason=DropReason.DATA))
    assert kinds(effects) == [Leave, Note, CloseRound, Leave]
    assert [each.round_number for each in effects if isinstance(each, Leave)] == [0, 1]


@pytest.mark.parametrize("event", [TimelineChanged(), ENDED, InstructionRefused()])
def test_what_ends_a_round_ends_the_one_that_waits(event: Event) -> None:
    made = goes_on()
    made.handle(train())
    assert CloseRound(assignment_digest=digest_of(1), outcome=None) in made.handle(event)


def test_stopping_leaves_the_round_that_waits() -> None:
    made = goes_on()
    made.handle(train())
    assert kinds(made.handle(StopRequested())) == [CloseRound, Leave]
