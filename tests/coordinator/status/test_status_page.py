"""The page says what the facts say, in both languages, and nothing in it can act."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from page_facts import COVERAGE, EVIL, FACTS, JOB, NOW

from coordinator.audit.chain import AuditKind
from coordinator.status.coverage import draw_coverage
from coordinator.status.curves import HEIGHT, WIDTH, draw_curve
from coordinator.status.facts import Absence, RoundFacts, StatusFacts
from coordinator.status.page import render_status
from coordinator.status.sentences import thin_heads
from coordinator.status.words import JAPANESE_NAMES, WORDS, Language, Phrases, Word, choose_language
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState

ENGLISH = Phrases(Language.ENGLISH)
VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Collects what a page has, and whether its tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)


@pytest.mark.parametrize("language", list(Language))
def test_names_are_text_and_nothing_acts_or_comes_from_elsewhere(language: Language) -> None:
    read = Reader(render_status(FACTS, language))
    assert "script" not in read.tags
    assert read.text.count(EVIL) >= 3  # as a job's name twice and as a site's, as they are
    assert all(re.fullmatch(r"/status\?lang=(en|ja)(&refresh=0)?|/status\.css|#sites", link) for link in read.links)


@pytest.mark.parametrize(
    "said",
    [
        "Round 8 of 12: training, 4 min left. 9 sites selected, 1 left since.",
        "Two heads have nobody & wait.",
        "Accuracy 75.0% (before training 12.5%)",
        "training 25%",
        "640 MiB",
        "3 s ago",
        "25 h ago",
        "never",
        "dropped (memory)",
        "resting: rests from orders until round 9",
        "not enrolled",
        "round 7 committed, 8 of 9 sites; left: plant-c (deadline)",
        "round 6 too few sites, 0 of 9 sites",
        "call denied",
        "StopJob",
        "mia",
        "coordinator",
    ],
)
def test_what_the_page_says(said: str) -> None:
    assert said in Reader(render_status(FACTS, Language.ENGLISH)).words


def test_a_job_that_nobody_leads_and_a_deadline_that_has_passed() -> None:
    running = RoundFacts(number=8, phase=RoundPhase.UPLOADING, deadline_at=NOW - 30, selected=9, dropped=0)
    job = replace(JOB, is_led=False, running=running)
    read = Reader(render_status(replace(FACTS, jobs=(job,)), Language.ENGLISH))
    assert "running, nobody leads it" in read.words
    assert "Round 8 of 12: uploading, deadline passed 30 s ago. 9 sites selected, 0 left since." in read.words


def test_an_empty_federation_says_how_to_begin() -> None:
    read = Reader(render_status(StatusFacts(version="1", now=NOW, addresses=()), Language.ENGLISH))
    assert "ravan-coordinator token create" in read.text
    assert "ravan-coordinator job sample" in read.text


def test_facts_that_did_not_come_are_not_shown_as_an_empty_federation() -> None:
    read = Reader(render_status(StatusFacts(version="1", now=NOW, addresses=(), is_known=False), Language.ENGLISH))
    assert "did not answer" in read.text
    assert "No site yet" not in read.text


def test_the_page_stands_still_where_that_was_asked_for() -> None:
    assert 'http-equiv="refresh"' in render_status(FACTS, Language.ENGLISH)
    assert 'http-equiv="refresh"' not in render_status(FACTS, Language.ENGLISH, refreshes=False)


def test_the_curve_has_its_points_in_order_and_to_scale() -> None:
    drawn = draw_curve("Accuracy", [(1, 0.2), (2, 0.6), (5, 0.4)], lambda value: f"{value:.0%}", ENGLISH)
    found = re.search(r'points="([^"]+)"', drawn)
    assert found is not None
    places = [tuple(map(float, pair.split(","))) for pair in found[1].split()]
    (x1, y1), (x2, y2), (x3, y3) = places
    assert 0 < x1 < x2 < x3 < WIDTH
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 4, abs=0.01)  # round 2 lies a quarter of the way from 1 to 5
    assert 0 < y2 < y3 < y1 < HEIGHT  # the higher value stands higher
    assert (y3 - y2) == pytest.approx(y1 - y3, abs=0.2)  # 0.4 lies in the middle of 0.2 and 0.6
    assert "from 20% to 40%, between 20% and 60%" in drawn
    assert draw_curve("Accuracy", [], str, ENGLISH) == ""


def test_one_point_and_equal_points_have_a_curve() -> None:
    for points in ([(3, 0.5)], [(1, 0.5), (2, 0.5)]):
        drawn = draw_curve("Loss", points, str, ENGLISH)
        assert drawn.count("<circle") == len(points)


def test_the_map_has_a_cell_for_each_head_shaded_by_quarters() -> None:
    drawn = draw_coverage(COVERAGE, ENGLISH)
    cells = re.findall(r'class="level(\d)"', drawn)
    # 1, 3, 4 of 8 and one withheld; 5, 6, 7, 8 of 8; the whole of the last row
    assert cells == ["1", "2", "2", "0", "3", "3", "4", "4", "4", "4", "4", "4"]
    assert "layer.0.query, head 3: 0 of 8 (withheld, too few)" in drawn


def test_thin_heads_are_those_below_half_the_fewest_first() -> None:
    assert thin_heads(COVERAGE) == [(0, 3), (0, 0), (0, 1)]
    assert "3 of 12 heads are thin: layer.0.query, head 3" in draw_coverage(COVERAGE, ENGLISH)


def test_both_languages_have_every_word_with_the_same_blanks() -> None:
    def blanks(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, japanese = WORDS[Language.ENGLISH], WORDS[Language.JAPANESE]
    for word in Word:
        assert blanks(english[word]) == blanks(japanese[word]), word
    for names in (SiteState, JobState, RoundPhase, RoundOutcome, DropReason, AgentActivity, Absence, AuditKind):
        assert set(names) <= set(JAPANESE_NAMES)


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        ("ja", "en", Language.JAPANESE),
        ("", "ja", Language.JAPANESE),
        ("", "ja-JP,ja;q=0.9,en;q=0.8", Language.JAPANESE),
        ("", "en-GB;q=0.7, ja;q=0.3", Language.ENGLISH),
        ("", "ja;q=0, en;q=0.1", Language.ENGLISH),
        ("", "fr, de", Language.ENGLISH),
        ("xx", "ja;q=high;;,,", Language.ENGLISH),
        ("", "", Language.ENGLISH),
    ],
)
def test_the_language_is_the_readers(asked: str, accepted: str, chosen: Language) -> None:
    assert choose_language(asked, accepted) is chosen
