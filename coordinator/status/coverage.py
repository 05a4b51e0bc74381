"""The map of who trained what: a row for each matrix, a cell for each head."""

from __future__ import annotations

from typing import Final

from coordinator.status.facts import CoverageFacts
from coordinator.status.markup import Markup, element, joined
from coordinator.status.sentences import say_head, say_thin
from coordinator.status.words import Phrases, Word

CELL: Final = 14
_GAP: Final = 2
_NAME_WIDTH: Final = 250
_LEVELS: Final = 4
"""Shades, by quarters of the survivors."""

_ROWS_OPEN: Final = 48
"""A longer map is folded up at first."""


def draw_coverage(facts: CoverageFacts, phrases: Phrases) -> Markup:
    """Return the map with a sentence that says the same in words."""
    caption = phrases.say(Word.COVERAGE_OF, number=facts.round_number, survivors=facts.survivors)
    rows = [_draw_row(facts, matrix, phrases) for matrix in range(len(facts.matrices))]
    width, height = _NAME_WIDTH + facts.heads * (CELL + _GAP), len(rows) * (CELL + _GAP)
    picture = element(
        "svg",
        element("title", f"{caption}. {say_thin(facts, phrases)}"),
        *rows,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        class_="coverage",
    )
    scroller = element("div", picture, class_="wrap", tabindex=0, role="region", aria_label=caption)
    return element(
        "details",
        element("summary", f"{phrases.say(Word.COVERAGE)}: {say_thin(facts, phrases)}"),
        element("p", caption, class_="quiet"),
        scroller,
        element("p", phrases.say(Word.LEGEND), class_="quiet"),
        open="" if len(rows) <= _ROWS_OPEN else None,
    )


def _draw_row(facts: CoverageFacts, matrix: int, phrases: Phrases) -> Markup:
    top = matrix * (CELL + _GAP)
    name = element(
        "text", facts.matrices[matrix], x=_NAME_WIDTH - 8, y=top + CELL - 3, text_anchor="end", aria_hidden="true"
    )
    cells = (
        element(
            "rect",
            element("title", say_head(facts, (matrix, head), phrases)),
            x=_NAME_WIDTH + head * (CELL + _GAP),
            y=top,
            width=CELL,
            height=CELL,
            class_=f"level{_level(facts, (matrix, head))}",
        )
        for head in range(facts.heads)
    )
    return joined((name, *cells))


def _level(facts: CoverageFacts, place: tuple[int, int]) -> int:
    """Return 0 for what nobody's update is in, and 1 to 4 by quarters of the survivors."""
    count = facts.counts.get(place, 0)
    return 0 if not count else min(_LEVELS, 1 + (_LEVELS * count - 1) // max(1, facts.survivors))
