"""Learning rates by successive halving, broken off anywhere and gone on with."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_plans import PLAN, TUNED, outcome_of, rates_of, scripted
from tiny_lab import tiny_task

from lab.study.cell import Cell, Part
from lab.study.halving import count_runs, halve
from lab.study.outcomes import OutcomeFile
from lab.study.plan import Plan
from lab.study.run import Course, look_ahead, missing_rung, rates_found, reported_cells
from lab.tasks import registry
from ravan.configuration import read_text

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


@pytest.fixture(autouse=True, scope="module")
def _tiny_task_is_known() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "tiny", tiny_task)
        PLANS.update(tuned=read_text(Plan, TUNED, source="tuned"), given=read_text(Plan, PLAN, source="given"))


PLANS: dict[str, Plan] = {}


def noise(cell: Cell) -> float:
    """Return an accuracy that follows from the cell, with ties now and then."""
    return hashlib.sha256(cell.key.encode()).digest()[0] // 32 / 8


def kind(cell: Cell) -> tuple[str, str]:
    return str(cell.federation), cell.method


@pytest.mark.parametrize(
    ("accuracies", "left"),
    [
        ({1.0: 0.5, 2.0: 0.7}, (2.0,)),
        ({3.0: 0.5, 1.0: 0.6, 2.0: 0.7}, (1.0, 2.0)),
        ({1.0: 0.5, 2.0: 0.5, 3.0: 0.5, 4.0: 0.5}, (1.0, 2.0)),
        ({4.0: 0.5, 3.0: 0.5, 2.0: 0.4, 1.0: 0.6}, (1.0, 3.0)),
        ({1.0: 0.0}, (1.0,)),
    ],
)
def test_the_better_half_goes_on_and_of_equals_the_smaller_rate(
    accuracies: dict[float, float], left: tuple[float, ...]
) -> None:
    assert halve(accuracies) == left


@settings(deadline=None)
@given(rates=st.integers(1, 40), rungs=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_each_rung_has_half_of_the_one_before(rates: int, rungs: list[int]) -> None:
    runs = count_runs(rates, rungs)
    assert [rounds for _, rounds in runs] == rungs
    for (before, _), (after, _) in pairwise(runs):
        assert after == max(1, (before + 1) // 2)
    assert runs[0][0] == rates


def test_every_rung_plays_exactly_the_better_half_of_each_method_in_each_federation(tmp_path: Path) -> None:
    plan, played = PLANS["tuned"], list[Cell]()
    outcomes = OutcomeFile(tmp_path / "outcomes.jsonl")
    chosen = Course(plan=plan, outcomes=outcomes, submit=scripted(noise, played)).tune()
    assert {(cell.part, cell.seed, cell.training.average_last) for cell in played} == {(Part.VALIDATION, 99, 1)}
    for pair in {kind(cell) for cell in played}:
        mine = [cell for cell in played if kind(cell) == pair]
        rungs = {rounds: [c for c in mine if c.training.rounds == rounds] for rounds in (1, 2, 4)}
        alive = list(RATES)
        for rounds, keep in ((1, 3), (2, 2), (4, 1)):
            assert rates_of(rungs[rounds]) == sorted(alive)
            assert len(rungs[rounds]) == len(alive)
            accuracy = {cell.learning_rate: noise(cell) for cell in rungs[rounds]}
            alive = sorted(alive, key=lambda rate: (-accuracy[rate], rate))[:keep]
        name = "iid" if pair[0].startswith("iid") else "skewed"
        assert chosen[name, {"ravan": "ravan", "fedit": "fedit"}[pair[1]]] == alive[0]
    assert {kind(cell)[1] for cell in played} == {"ravan", "fedit"}
    assert len(played) == 4 * (5 + 3 + 2)


def test_rates_are_taken_over_or_given(tmp_path: Path) -> None:
    plan = PLANS["tuned"]
    course = Course(plan=plan, outcomes=OutcomeFile(tmp_path / "o.jsonl"), submit=scripted(noise, []))
    chosen = course.tune()
    assert chosen.keys() == {(f, m) for f in ("iid", "skewed") for m in ("ravan", "normal", "fedit", "floor")}
    for federation in ("iid", "skewed"):
        assert chosen[federation, "normal"] == chosen[federation, "ravan"]
        assert chosen[federation, "floor"] == 0.5


def test_nothing_is_chosen_before_tuning_is_done(tmp_path: Path) -> None:
    plan, outcomes = PLANS["tuned"], OutcomeFile(tmp_path / "o.jsonl")
    given = {("iid", "floor"): 0.5, ("skewed", "floor"): 0.5}
    assert rates_found(plan, outcomes) == given
    while missing := missing_rung(plan, outcomes):
        assert rates_found(plan, outcomes) == given
        for cell in missing:
            outcomes.add(cell, outcome_of(cell, noise(cell)))
    assert len(rates_found(plan, outcomes)) == 8


def test_of_equally_good_rates_the_smaller_one_wins(tmp_path: Path) -> None:
    course = Course(plan=PLANS["tuned"], outcomes=OutcomeFile(tmp_path / "o.jsonl"), submit=scripted(lambda _: 0.5, []))
    assert {rate for (_, name), rate in course.tune().items() if name != "floor"} == {0.001}


def test_a_rate_is_as_good_as_its_mean_over_the_tuning_seeds(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "tiny", tiny_task)
        plan = read_text(Plan, TUNED.replace("seeds = [99]", "seeds = [98, 99]"), source="two seeds")
    by_rate = {0.001: (0.9, 0.1), 0.003: (0.5, 0.7), 0.01: (0.6, 0.5), 0.03: (0.2, 0.2), 0.1: (0.0, 1.0)}
    played = list[Cell]()
    crew = scripted(lambda cell: by_rate[cell.learning_rate][cell.seed - 98], played)
    chosen = Course(plan=plan, outcomes=OutcomeFile(tmp_path / "o.jsonl"), submit=crew).tune()
    assert {rate for (_, name), rate in chosen.items() if name != "floor"} == {0.003}
    assert rates_of(cell for cell in played if cell.training.rounds == 2) == [0.001, 0.003, 0.01]
    assert Counter(cell.seed for cell in played) == {98: 4 * (5 + 3 + 2), 99: 4 * (5 + 3 + 2)}


class PowerCutError(Exception):
    """Ends a study."""


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(0, 30), max_size=6))
def test_a_study_that_is_broken_off_anywhere_plays_no_cell_twice(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    plan, path, played = PLANS["tuned"], tmp_path_factory.mktemp("study") / "o.jsonl", list[Cell]()
    for cut in [*cuts, 10_000]:
        left, noted = cut, list[Cell]()

        def told(cell: Cell, _: object) -> None:
            nonlocal left
            noted.append(cell)  # noqa: B023 - used within this pass
            if left == 0:
                raise PowerCutError
            left -= 1

        course = Course(plan=plan, outcomes=OutcomeFile(path), submit=scripted(noise, []), told=told)
        with suppress(PowerCutError):
            course.judge(course.tune())
        played += noted
    assert max(Counter(cell.key for cell in played).values()) == 1
    whole = list[Cell]()
    course = Course(plan=plan, outcomes=OutcomeFile(path.with_name("whole.jsonl")), submit=scripted(noise, whole))
    chosen = course.tune()
    course.judge(chosen)
    assert {cell.key for cell in played} == {cell.key for cell in whole}
    assert rates_found(plan, OutcomeFile(path)) == chosen


def test_what_is_reported_is_every_method_on_the_test_examples_seed_by_seed() -> None:
    plan = PLANS["given"]
    cells = reported_cells(plan, {("iid", "ravan"): 0.01, ("iid", "fedit"): 0.003})
    assert [(c.seed, c.method, c.learning_rate, c.part) for c in cells] == [
        (1, "ravan", 0.01, Part.TEST),
        (1, "fedit", 0.003, Part.TEST),
        (2, "ravan", 0.01, Part.TEST),
        (2, "fedit", 0.003, Part.TEST),
    ]
    assert {(c.training.rounds, c.training.average_last) for c in cells} == {(2, 1)}


def test_what_lies_ahead_is_what_will_be_played_wherever_a_study_was_broken_off(tmp_path: Path) -> None:
    plan, played = PLANS["tuned"], list[Cell]()
    outcomes = OutcomeFile(tmp_path / "o.jsonl")
    # Of another plan's runs in the same file nothing is left and nothing is kept.
    elsewhere = plan.cell(plan.federation[0], plan.method[0], 0.5, 77, Part.TEST)
    outcomes.add(elsewhere, outcome_of(elsewhere, 0.5))
    seen = [look_ahead(plan, outcomes)]

    def told(cell: Cell, _: object) -> None:
        played.append(cell)
        seen.append(look_ahead(plan, outcomes))

    course = Course(plan=plan, outcomes=outcomes, submit=scripted(noise, []), told=told)
    course.judge(course.tune())

    def tally(cells: Iterable[Cell]) -> Counter[tuple[object, ...]]:
        return Counter((kind(c), c.options, c.training.rounds, c.part) for c in cells)

    assert [tally(ahead.cells) for ahead in seen] == [tally(played[done:]) for done in range(len(played) + 1)]
    assert [ahead.kept for ahead in seen] == list(range(len(played) + 1))


def test_a_method_that_joins_a_study_leaves_the_rates_and_runs_of_the_others(tmp_path: Path) -> None:
    plan = PLANS["tuned"]
    assert plan.tuning is not None
    assert len(plan.tuning.rungs) == 3
    (tuned, *_) = plan.tuned_methods()
    one = plan.model_copy(update={"method": [each for each in plan.method if each.name == tuned.name]})
    joined = one.model_copy(
        update={"method": [*one.method, tuned.model_copy(update={"name": "joined", "kind": "fedit"})]}
    )
    outcomes = OutcomeFile(tmp_path / "o.jsonl")
    course = Course(plan=one, outcomes=outcomes, submit=scripted(noise, []))
    chosen = course.tune()
    course.judge(chosen)
    assert rates_found(joined, outcomes) == chosen
    ahead = look_ahead(joined, outcomes)
    assert {cell.method for cell in ahead.cells} == {"fedit"}
    assert ahead.kept == look_ahead(one, outcomes).kept
    # and then climbs all rungs by itself
    played = list[Cell]()
    course = Course(plan=joined, outcomes=outcomes, submit=scripted(noise, played))
    course.judge(course.tune())
    assert len(played) == len(ahead.cells)
    assert rates_found(joined, outcomes).keys() == {(f, m) for f in ("iid", "skewed") for m in (tuned.name, "joined")}


def test_variants_that_are_the_same_run_are_played_once(tmp_path: Path) -> None:
    twice = PLAN.replace('name = "fedit"\nkind = "fedit"', 'name = "again"\nkind = "ravan"').replace(
        "learning_rate = 0.003", 'learning_rate = 0.01\noptions = { heads = 2, basis = "normal", train_scales = false }'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "tiny", tiny_task)
        plan = read_text(Plan, twice, source="twice")
    played = list[Cell]()
    course = Course(plan=plan, outcomes=OutcomeFile(tmp_path / "o.jsonl"), submit=scripted(noise, played))
    course.judge(course.tune())
    assert [cell.seed for cell in played] == [1, 2]
