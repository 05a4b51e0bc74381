"""`docs/architecture.md` shows round, job and agent as their code has them."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from job_diagram import draw_job, list_moves
from pages import read_page, read_rows, read_section
from round_diagram import draw_states, list_states
from session_diagram import EVENTS, draw_session, record_moves

from coordinator.rounds.states import COLLECTING, RoundState
from edge_agent.session.events import Event
from ravan.manifest.phases import ENDED_JOBS, JobState

PAGE = read_page("architecture.md")
PHASES = read_section(PAGE, "## The phases of a round")


@pytest.mark.parametrize(
    ("heading", "drawn"),
    [
        ("## The phases of a round", draw_states()),
        ("## The states of a job", draw_job()),
        ("## The states of an agent", draw_session()),
    ],
)
def test_diagram_is_drawn_from_the_code(heading: str, drawn: str) -> None:
    assert read_section(PAGE, heading).partition("```mermaid\n")[2].partition("```")[0] == drawn


def test_diagram_shows_the_way_through_a_round() -> None:
    drawn = draw_states()
    assert "sharing --> uploading: answers, drops or deadline\n" in drawn
    assert "evaluating --> ended: commit, give up\n" in drawn
    assert "uploading --> training" not in drawn


def test_every_state_is_listed_with_its_phase_and_deadline() -> None:
    rows = [(row[0], row[1].strip("`"), row[2]) for row in read_rows(PHASES)]
    assert rows == list_states()
    assert sum(deadline == "yes" for *_, deadline in rows) == len(COLLECTING)
    assert len(rows) == len(RoundState)


def test_every_event_of_an_agent_was_tried() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_an_agent_goes_through_a_round_step_by_step() -> None:
    moves = record_moves()
    steps = ["prepared", "train", "share", "upload", "confirm", "reveal", "prepared"]
    assert all(moves[step] for step in pairwise(steps))
    assert ("share", "confirm") not in moves


def test_a_job_ends_once() -> None:
    moves = list_moves()
    assert not {old for old, *_ in moves} & ENDED_JOBS
    assert {new for _, new, _ in moves} == set(JobState) - {JobState.PREPARING}
