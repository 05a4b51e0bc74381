"""`docs/troubleshooting.md` quotes what the programs really print, and leads to every runbook."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from pages import DOCS, ROOT, read_codes, read_page

from coordinator.metrics.catalog import Catalog
from ravan.manifest.phases import RoundOutcome, SiteState

PAGE = read_page("troubleshooting.md")
NETWORK = read_page("network.md")
GAP = "…"
QUOTED = re.compile(rf'"([^"\n]*(?:\.|{GAP}|needed))"')


@cache
def printed() -> tuple[str, ...]:
    """Return every text in the programs' code, with a gap for each value that is put in."""
    files = (path for root in ("coordinator", "edge_agent", "ravan") for path in (ROOT / root).rglob("*.py"))
    return tuple(text for path in files for text in texts_in(path.read_text(encoding="utf-8")))


def texts_in(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.JoinedStr(values=parts):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in parts)
            case ast.Constant(value=str(text)):
                yield text


def is_printed(sentence: str) -> bool:
    """Tell whether some text has all that is between the gaps of a sentence, in order."""
    wanted = re.compile(".*".join(map(re.escape, sentence.strip(GAP).split(GAP))), re.DOTALL)
    return any(wanted.search(text) for text in printed())


@pytest.mark.parametrize("sentence", sorted({*QUOTED.findall(PAGE), *QUOTED.findall(NETWORK)}))
def test_quoted_sentences_are_printed_by_the_code(sentence: str) -> None:
    assert is_printed(sentence)


def test_what_nobody_prints_is_noticed() -> None:
    assert is_printed("The coordinator at … cannot be reached.")
    assert not is_printed("The coordinator at … has left the building.")
    assert len(QUOTED.findall(PAGE)) > 30


def test_metrics_outcomes_and_states_are_those_that_there_are() -> None:
    codes = read_codes(PAGE) | read_codes(read_page("sizing.md")) | read_codes(NETWORK)
    names = {described.name for described in Catalog().descriptions}
    assert {code for code in codes if re.fullmatch(r"ravan_\w+", code)} <= names
    assert {"invited", "offline"} <= set(SiteState)
    assert {"canary_mismatch", "too_few_sites"} <= codes & set(RoundOutcome)


def test_every_runbook_is_led_to() -> None:
    there = {path.name for path in (DOCS / "runbooks").glob("*.md")}
    assert there - set(re.findall(r"\(runbooks/(\w+\.md)\)", PAGE)) == set()
