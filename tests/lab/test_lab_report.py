"""A report's rows and tables from outcomes that nobody played."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from study_plans import PLAN, TUNED, outcome_of
from tiny_lab import tiny_task

from lab.report.comparison import Row, compare_methods
from lab.report.tables import say_difference, write_tables
from lab.study.cell import Part
from lab.study.outcomes import OutcomeFile
from lab.study.paired import Difference
from lab.study.plan import Plan
from lab.study.run import Chosen, rates_found
from lab.tasks import registry
from ravan.configuration import read_text


@pytest.fixture(autouse=True)
def _tiny_task_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "tiny", tiny_task)


@pytest.fixture
def plan() -> Plan:
    return read_text(Plan, PLAN.replace("seeds = [1, 2]", "seeds = [1, 2, 3]"), source="plan")


EMPTY_TABLE = (
    "| method | rate | accuracy | sd | minus ravan | seeds | MB up | MB down | core minutes |",
    "|---|---|---|---|---|---|---|---|---|",
)
EMPTY_ROW = Row(
    federation="iid",
    method="ravan",
    learning_rate=0.01,
    accuracies=(0.5,),
    difference=None,
    uploaded=0,
    downloaded=0,
    minutes=0,
    diverged=0,
)
CHOSEN: Chosen = {("iid", "ravan"): 0.01, ("iid", "fedit"): 0.003}
TABLE = {"ravan": {1: 0.50, 2: 0.60, 3: 0.70}, "fedit": {1: 0.52, 2: 0.61, 3: 0.75}}


def filled(plan: Plan, path: Path, table: dict[str, dict[int, float]]) -> OutcomeFile:
    outcomes = OutcomeFile(path / "o.jsonl")
    for method in plan.method:
        for seed, accuracy in table.get(method.name, {}).items():
            cell = plan.cell(plan.federation[0], method, CHOSEN["iid", method.name], seed, Part.TEST)
            outcomes.add(cell, outcome_of(cell, accuracy))
    return outcomes


def rows_of(plan: Plan, outcomes: OutcomeFile) -> dict[str, Row]:
    return {row.method: row for row in compare_methods(plan, CHOSEN, outcomes)}


def test_each_method_stands_beside_the_baseline_seed_by_seed(plan: Plan, tmp_path: Path) -> None:
    rows = rows_of(plan, filled(plan, tmp_path, TABLE))
    assert rows["ravan"].difference is None
    assert rows["ravan"].mean == pytest.approx(0.6)
    assert rows["ravan"].deviation == pytest.approx(0.1)
    difference = rows["fedit"].difference
    assert difference is not None
    # 2, 1 and 5 points: mean 8/3, squares 4/9 + 25/9 + 49/9 = 26/3 over 2.
    assert difference.mean == pytest.approx(0.08 / 3)
    assert difference.half_width == pytest.approx(4.303 * 0.01 * (13 / 3) ** 0.5 / 3**0.5)
    assert rows["fedit"].accuracies == (0.52, 0.61, 0.75)
    assert (rows["fedit"].uploaded, rows["fedit"].downloaded, rows["fedit"].minutes) == (2e6, 3e6, 1.5)
    assert rows["fedit"].learning_rate == 0.003


def test_seeds_that_only_one_has_are_left_out_of_the_pairs(plan: Plan, tmp_path: Path) -> None:
    table = {"ravan": {1: 0.5, 3: 0.7}, "fedit": {1: 0.4, 2: 0.9}}
    rows = rows_of(plan, filled(plan, tmp_path, table))
    assert rows["ravan"].accuracies == (0.5, 0.7)
    assert rows["fedit"].accuracies == (0.4,)
    assert rows["fedit"].difference is not None
    assert rows["fedit"].difference.count == 1


def test_a_method_without_outcomes_or_without_a_rate_has_no_row(plan: Plan, tmp_path: Path) -> None:
    outcomes = filled(plan, tmp_path, {"ravan": {1: 0.5}})
    assert list(rows_of(plan, outcomes)) == ["ravan"]
    assert [row.method for row in compare_methods(plan, {("iid", "fedit"): 0.003}, outcomes)] == []


def test_outcomes_at_another_rate_are_not_taken(plan: Plan, tmp_path: Path) -> None:
    outcomes = filled(plan, tmp_path, TABLE)
    other = {**CHOSEN, ("iid", "fedit"): 0.03}
    assert [row.method for row in compare_methods(plan, other, outcomes)] == ["ravan"]


def test_the_table_has_the_best_first_in_per_cent_and_megabytes(plan: Plan, tmp_path: Path) -> None:
    rows = list(rows_of(plan, filled(plan, tmp_path, TABLE)).values())
    text = write_tables(plan, rows)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines == [
        "| method | rate | accuracy | sd | minus ravan | seeds | MB up | MB down | core minutes |",
        "| fedit | 0.003 | 62.67 | 11.59 | +2.67 ± 5.17 | 3 | 2.00 | 3.00 | 1.5 |",
        "| ravan | 0.01 | 60.00 | 10.00 |  | 3 | 2.00 | 3.00 | 1.5 |",
    ]
    assert text.startswith("# tiny\n\ntiny; 2 rounds of 1 steps on 4 examples; budget: LoRA of rank 2; ")
    assert "Learning rates are given." in text
    assert "## iid: iid, 2 of 2, equal" in text


def test_the_best_comes_first_by_its_difference_and_not_by_seeds_that_the_others_lack(
    plan: Plan, tmp_path: Path
) -> None:
    # Better than the baseline where both were played, and below its mean over all seeds.
    table = {"ravan": {1: 0.40, 2: 0.80, 3: 0.80}, "fedit": {1: 0.45}}
    rows = list(rows_of(plan, filled(plan, tmp_path, table)).values())
    lines = [line for line in write_tables(plan, rows).splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[1:]] == ["| fedit", "| ravan"]


def test_a_rate_at_an_end_of_its_grid_is_named(tmp_path: Path) -> None:
    plan = read_text(Plan, TUNED, source="tuned")

    def table(rates: Chosen) -> str:
        rows = [
            dataclasses.replace(EMPTY_ROW, federation=f, method=m, learning_rate=rate) for (f, m), rate in rates.items()
        ]
        return write_tables(plan, rows)

    # `normal` has ravan's rate, and `floor` a given one.
    text = table({("iid", "ravan"): 0.001, ("iid", "normal"): 0.001, ("iid", "fedit"): 0.1, ("iid", "floor"): 0.1})
    assert text.count("at an end of the grid") == 1
    assert "The best rate is at an end of the grid: ravan (lowest), fedit (highest)." in text
    assert "end of the grid" not in table({("iid", "ravan"): 0.003, ("iid", "fedit"): 0.03})


def test_runs_that_blew_up_are_told(plan: Plan, tmp_path: Path) -> None:
    outcomes = filled(plan, tmp_path, {"ravan": TABLE["ravan"]})
    for seed in (1, 2):
        cell = plan.cell(plan.federation[0], plan.method[1], 0.003, seed, Part.TEST)
        outcomes.add(cell, dataclasses.replace(outcome_of(cell, 0.0), diverged=seed == 1))
    rows = rows_of(plan, outcomes)
    assert rows["fedit"].diverged == 1
    assert "| 1 diverged" in write_tables(plan, list(rows.values()))


def test_a_report_before_anything_was_run_has_the_heading_alone(tmp_path: Path) -> None:
    plan = read_text(Plan, TUNED, source="tuned")
    outcomes = OutcomeFile(tmp_path / "o.jsonl")
    text = write_tables(plan, list(compare_methods(plan, rates_found(plan, outcomes), outcomes)))
    tuned = "Learning rates of ravan, fedit: successive halving over 0.001, 0.003, 0.01, 0.03, 0.1"
    assert f"{tuned} on 1 / 2 / 4 rounds, by validation, seeds 99." in text
    assert text.count("the baseline, ravan, has no outcome on the test examples yet") == 2
    assert "## skewed: dirichlet(0.5), 2 of 3, equal" in text
    assert [
        line for line in text.splitlines() if line.startswith("|") and "method" not in line and "---" not in line
    ] == []


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (None, ""),
        (Difference(mean=0.021, half_width=0.02, count=3), "**+2.10 ± 2.00**"),
        (Difference(mean=-0.021, half_width=0.02, count=3), "**-2.10 ± 2.00**"),
        (Difference(mean=0.019, half_width=0.02, count=3), "+1.90 ± 2.00"),
        (Difference(mean=0.5, half_width=float("inf"), count=1), "+50.00 (one seed)"),
    ],
)
def test_only_what_is_clear_of_zero_is_bold(difference: Difference | None, words: str) -> None:
    assert say_difference(difference) == words
