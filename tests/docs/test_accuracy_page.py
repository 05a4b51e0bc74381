"""The tables of `docs/accuracy/README.md` say what the outcomes beside them say, to the last digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile

import pytest
from pages import DOCS, ROOT, read_page

from lab.report.comparison import Row, compare_methods
from lab.report.tables import say_difference
from lab.study.outcomes import OutcomeFile
from lab.study.plan import load_plan
from lab.study.run import rates_found

OUTCOMES = DOCS / "accuracy" / "outcomes"
LINES = read_page("accuracy/README.md").splitlines()


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield the plan that was named last, the head and the rows of every table of accuracies by method."""
    plan = ""
    for number, line in enumerate(LINES):
        for named in re.findall(r"lab/plans/([\w-]+)\.toml", line):
            plan = named
        if line.startswith("| method |") and "accuracy" in cells_of(line):
            rows = takewhile(lambda row: row.startswith("|"), LINES[number + 2 :])
            yield plan, cells_of(line), [cells_of(row) for row in rows]


TABLES = list(tables())


@lru_cache
def rows_of(name: str) -> dict[tuple[str, str], Row]:
    plan = load_plan(ROOT / "lab" / "plans" / f"{name}.toml")
    outcomes = OutcomeFile(OUTCOMES / plan.study.name / "outcomes.jsonl")
    rows = {(row.federation, row.method): row for row in compare_methods(plan, rates_found(plan, outcomes), outcomes)}
    alone = len(plan.federation) == 1
    return {("" if alone else federation, method): row for (federation, method), row in rows.items()}


def expected(row: Row, column: str) -> str:
    if column.startswith("minus "):
        return say_difference(row.difference)
    return {
        "rate": f"{row.learning_rate:g}",
        "accuracy": f"{100 * row.mean:.2f}",
        "sd": f"{100 * row.deviation:.2f}",
        "seeds": str(len(row.accuracies)),
        "MB up": f"{row.uploaded / 1e6:.2f}",
        "MB down": f"{row.downloaded / 1e6:.2f}",
        "core minutes": f"{row.minutes:.1f}",
    }[column]


@pytest.mark.parametrize(("plan", "head", "rows"), TABLES, ids=[plan for plan, _, _ in TABLES])
def test_a_table_says_what_the_outcomes_say(plan: str, head: list[str], rows: list[list[str]]) -> None:
    known = rows_of(plan)
    told = set()
    for cells in rows:
        row = dict(zip(head, cells, strict=True))
        # What a row is may be explained after its name.
        key = row.pop("federation", ""), row.pop("method").partition(":")[0]
        told.add(key)
        assert row == {column: expected(known[key], column) for column in row}, key
    assert told == known.keys()


def test_every_study_that_was_run_has_its_place_on_the_page() -> None:
    named = set(re.findall(r"lab/plans/([\w-]+)\.toml", "\n".join(LINES)))
    assert {folder.name for folder in OUTCOMES.iterdir()} <= named
    assert len(TABLES) >= 7
