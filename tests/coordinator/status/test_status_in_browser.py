"""The page in a real browser: on a desk and on a phone, by day and by night, by keyboard and by ear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browsing
from page_facts import FACTS
from PIL import Image
from prometheus_client import CollectorRegistry

from coordinator.metrics.http import HttpContent, HttpServer
from coordinator.status.page import render_status
from coordinator.status.style import STYLESHEET

DESK = (1200, 900)
PHONE = (360, 740)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    content = HttpContent(
        registry=CollectorRegistry(),
        refresh=lambda: None,
        is_ready=lambda: True,
        status_page=lambda language, refreshes: render_status(FACTS, language, refreshes=refreshes),
        stylesheet=STYLESHEET,
    )
    server = HttpServer(content, host="127.0.0.1", port=0, names=())
    server.start()
    yield f"http://127.0.0.1:{server.port}/status"
    server.stop()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("screen", [DESK, PHONE])
def test_it_fits_the_screen_and_breaks_no_rule(
    page: Page, address: str, screen: tuple[int, int], language: str
) -> None:
    page.open(f"{address}?lang={language}", screen)
    assert page.complaints() == []  # nothing that the policy forbids, nothing that is missing
    assert page.evaluate("document.documentElement.scrollWidth") <= screen[0]
    assert page.evaluate("document.documentElement.lang") == language
    assert page.evaluate("document.styleSheets.length") == 1


def test_it_is_dark_by_night(page: Page, address: str, tmp_path: Path) -> None:
    corners = []
    for dark in (False, True):
        page.open(address, DESK, dark=dark)
        page.picture(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as picture:
            corners.append(picture.convert("L").crop((0, 0, 4, 4)).histogram())
    day, night = corners
    assert sum(day[200:]) == 16
    assert sum(night[:60]) == 16


def test_the_keyboard_reaches_links_and_whatever_scrolls(page: Page, address: str) -> None:
    page.open(f"{address}?lang=en", PHONE)
    reached = []
    for _ in range(12):
        page.press_tab()
        reached.append(page.evaluate("document.activeElement.textContent.slice(0, 20)"))
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width != "0px", reached
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Recent events":
            break
    assert reached[0] == "Skip to the sites"
    assert {"日本語", "Stop refreshing"} <= set(reached)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Recent events"


def test_a_screen_reader_hears_what_is_drawn(page: Page, address: str) -> None:
    page.open(f"{address}?lang=en", DESK)
    heard = page.accessible()
    for expected in (
        ("heading", "Jobs"),
        ("heading", "Sites"),
        ("table", "Sites"),
        ("columnheader", "Why it has no part"),
        ("rowheader", "plant-a"),
        ("image", "Accuracy by round: from 10.0% to 70.0%, between 10.0% and 70.0%"),
    ):
        assert expected in heard
    maps = [name for role, name in heard if role == "image" and "3 of 12 heads are thin" in name]
    assert len(maps) == 1
