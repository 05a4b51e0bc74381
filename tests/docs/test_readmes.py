"""Both READMEs lead along the same path: the same commands, headings and links, so what is tested holds for both."""

from __future__ import annotations

import re

import pytest
from pages import ROOT, anchors_in
from shell_blocks import read_blocks

NAMES = ("README.md", "README.ja.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}


def code_of(name: str) -> list[tuple[str, str]]:
    """Return what is typed or read by a program; pictures made of letters have words in them."""
    return [(block.info, block.text) for block in read_blocks(name) if block.language != "text"]


def links_of(name: str) -> set[str]:
    return set(re.findall(r"\]\(([^)\s]+)\)", TEXTS[name])) - set(NAMES)


def headings_of(name: str) -> list[str]:
    outside = re.sub(r"^```.*?^```$", "", TEXTS[name], flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+ (?:\d\.)?)", outside, re.MULTILINE)


def test_blocks_are_the_same() -> None:
    assert code_of("README.md") == code_of("README.ja.md")
    assert len(code_of("README.md")) > 10


def test_links_and_headings_are_the_same() -> None:
    assert links_of("README.md") == links_of("README.ja.md")
    assert headings_of("README.md") == headings_of("README.ja.md")


@pytest.mark.parametrize(("name", "other"), [NAMES, NAMES[::-1]])
def test_each_leads_to_the_other(name: str, other: str) -> None:
    assert f"]({other})" in TEXTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in links_of(name):
        path, _, anchor = target.partition("#")
        page = ROOT / path
        assert page.exists(), target
        assert not anchor or anchor in anchors_in(page), target


def test_the_japanese_one_is_in_japanese() -> None:
    prose = re.sub(r"^```.*?^```$|`[^`]*`|\]\([^)]*\)", "", TEXTS["README.ja.md"], flags=re.MULTILINE | re.DOTALL)
    letters = re.findall(r"[ぁ-んァ-ヶ一-龠]", prose)
    assert len(letters) > 1000
    assert "です" in prose
    assert "ます" in prose
