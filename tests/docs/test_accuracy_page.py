"""The tables of `docs/accuracy/README.md` say what the outcomes beside them say, to the last digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile

import pytest
from pages import DOCS, ROOT, read_page, read_section

from lab.report.comparison import Row, compare_methods
from lab.report.tables import say_difference
from lab.study.cell import Part
from lab.study.outcomes import OutcomeFile
from lab.study.paired import compare
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


TASKS = {"work orders": "headline-skewed", "images": "images-skewed", "sensor windows": "engines-skewed"}
"""Task names of the page, and the study that each summary is of."""
SHIPS = {"sensor windows": "drawn-ravan"}
"""What the product runs a task with, where that is not the study's `ravan`."""


def difference_of(study: str, one: str, other: str) -> str:
    """Return a paired difference to a digit, as the summary has it."""
    rows = rows_of(study)
    first, second = (rows["", name].accuracies for name in (one, other))
    assert len(first) == len(second)
    found = compare(first, second)
    said = f"{100 * found.mean:+.1f} ± {100 * found.half_width:.1f}"
    return f"**{said}**" if found.is_clear else said


def cells_below(heading: str) -> list[list[str]]:
    lines = read_section(read_page("accuracy/README.md"), heading).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    return [cells_of(line) for line in takewhile(lambda line: line.startswith("|"), lines[start + 1 :])]


def test_the_summary_says_what_the_studies_say() -> None:
    seen = []
    for name, *told, full, _ in cells_below("## In short"):
        task = name.partition(" (")[0]
        ravan = SHIPS.get(task, "ravan")
        rivals = ("fedit", "ffa-lora", "fedit-same", "ffa-same")
        assert told == [difference_of(TASKS[task], ravan, rival) for rival in rivals], name
        if full != "not run":
            assert full == f"{difference_of('ceiling', 'ravan', 'full-same')} (3 seeds)"
        seen.append(task)
    assert seen == list(TASKS)


def searched(study: str, method_name: str) -> dict[float, float]:
    """Return the mean validation accuracy of each rate over the seeds of the search, by the plan's own cells."""
    plan = load_plan(ROOT / "lab" / "plans" / f"{study}.toml")
    tuning = plan.tuning
    assert tuning is not None
    outcomes = OutcomeFile(OUTCOMES / study / "outcomes.jsonl")
    method = next(each for each in plan.method if each.name == method_name)
    means = {}
    for rate in tuning.rates:
        cells = [plan.cell(plan.federation[0], method, rate, seed, Part.VALIDATION) for seed in tuning.seeds]
        found = [outcomes.find(cell) for cell in cells]
        means[rate] = sum(each.accuracy for each in found if each is not None) / len(found)
        assert None not in found
    return means


def test_the_rates_are_those_that_the_searches_found() -> None:
    methods = {
        "Ravan as it ships": "ravan",
        "Ravan on aligned bases": "ravan",
        "FedIT with its loss": "fedit-same",
        "FFA-LoRA with its loss": "ffa-same",
    }
    task, told = "", 0
    for named, row, *cells in cells_below("## Learning rates"):
        task = named or task
        means = searched(TASKS[task], methods[row])
        best = max(means, key=lambda rate: (means[rate], -rate))
        words = {rate: f"**{100 * mean:.1f}**" if rate == best else f"{100 * mean:.1f}" for rate, mean in means.items()}
        assert cells == [words.get(rate, "") for rate in (0.001, 0.003, 0.01, 0.03)], (task, row)
        told += 1
    assert told == 9


def test_every_study_that_was_run_has_its_place_on_the_page() -> None:
    named = set(re.findall(r"lab/plans/([\w-]+)\.toml", "\n".join(LINES)))
    assert {folder.name for folder in OUTCOMES.iterdir()} <= named
    assert len(TABLES) >= 7
