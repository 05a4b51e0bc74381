"""`docs/architecture.md` shows the round as the transition table has it."""

from __future__ import annotations

from pages import read_page, read_rows, read_section
from round_diagram import draw_states, list_states

from coordinator.rounds.states import COLLECTING, RoundState

PAGE = read_page("architecture.md")
PHASES = read_section(PAGE, "## The phases of a round")


def test_diagram_is_drawn_from_the_table() -> None:
    assert PHASES.partition("```mermaid\n")[2].partition("```")[0] == draw_states()


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
