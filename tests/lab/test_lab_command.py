"""`python -m lab` as people call it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from study_plans import PLAN, TUNED
from tiny_lab import tiny_task

import lab.__main__ as program
from lab.simulation import Outcome, play_cell
from lab.study import crew
from lab.study.cell import Cell
from lab.tasks import registry

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "tiny_lab_program.py"
TUNED_SHORT = (
    TUNED.replace("rates = [0.001, 0.003, 0.01, 0.03, 0.1]", "rates = [0.003, 0.03]")
    .replace("rungs = [1, 2, 4]", "rungs = [1, 1]")
    .replace("rounds = 8", "rounds = 1")
    .replace("seeds = [1, 2, 3]", "seeds = [1]")
)

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Call]:
    """Return what calls the program in this process: (exit code, standard output, standard error)."""
    monkeypatch.setitem(registry.TASKS, "tiny", tiny_task)
    registry.load_task.cache_clear()
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            program._run()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), *capsys.readouterr()

    yield called
    registry.load_task.cache_clear()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Have cells played here instead of in processes, and note them."""
    noted: list[Cell] = []

    @contextmanager
    def in_this_process(workers: int) -> Iterator[crew.Submit]:
        def submit(cell: Cell) -> Future[Outcome]:
            noted.append(cell)
            future: Future[Outcome] = Future()
            future.set_result(play_cell(cell, tiny_task()))
            return future

        yield submit

    monkeypatch.setattr(crew, "local_crew", in_this_process)
    return noted


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def rows_in(output: str) -> list[str]:
    return [line.split("|")[1].strip() for line in output.splitlines() if re.match(r"\| \w+ \| [0-9.e-]+ \|", line)]


def test_a_study_from_beginning_to_end_in_a_process_of_its_own(tmp_path: Path) -> None:
    plan = written(tmp_path, PLAN)
    command = [sys.executable, str(SCRIPT), "run", plan, "--out", str(tmp_path / "runs"), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"tiny: 4 runs to play, about [0-9.]+ core hours, [0-9.]+ hours with 1 at once; 0 are kept", done.stdout
    )
    assert sorted(rows_in(done.stdout)) == ["fedit", "ravan"]
    assert done.stderr.count("2 rounds, seed") == 4
    lines = (tmp_path / "runs" / "tiny" / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_a_tuned_study_is_run_reported_and_not_run_again(call: Call, played: list[Cell], tmp_path: Path) -> None:
    plan = written(tmp_path, TUNED_SHORT)
    code, output, _ = call("run", plan, "--workers", "1")
    assert code == 0
    # Two federations: two rates of two methods once (the second rung is a part of the first), then four methods.
    assert len(played) == 2 * (2 * 2 + 4)
    assert sorted(rows_in(output)) == sorted(["ravan", "normal", "fedit", "floor"] * 2)
    again, repeated, _ = call("run", plan)
    assert again == 0
    assert len(played) == 2 * (2 * 2 + 4)
    assert repeated.startswith("tuned: 0 runs to play, about 0.00 core hours")
    assert "16 are kept from before" in repeated
    reported, report, _ = call("report", plan)
    assert reported == 0
    assert rows_in(report) == rows_in(output)


def test_runs_that_another_study_has_are_not_played_again(call: Call, played: list[Cell], tmp_path: Path) -> None:
    assert call("run", written(tmp_path, TUNED_SHORT), "--workers", "1")[0] == 0
    before = len(played)
    renamed = written(tmp_path, TUNED_SHORT.replace('name = "tuned"', 'name = "second"'))
    code, output, _ = call("run", renamed, "--workers", "1")
    assert code == 0
    assert output.startswith("second: 0 runs to play, about 0.00 core hours")
    assert len(played) == before
    # What it took is its own now.
    first, second = (tmp_path / "lab-runs" / name / "outcomes.jsonl" for name in ("tuned", "second"))
    assert sorted(first.read_text().splitlines()) == sorted(second.read_text().splitlines())


def test_a_dry_run_prints_the_hours_and_plays_nothing(call: Call, played: list[Cell], tmp_path: Path) -> None:
    code, output, _ = call("run", written(tmp_path, TUNED), "--dry-run", "--workers", "4")
    assert code == 0
    # Of each of two federations: 4 methods x 3 seeds, and two that are tuned on 5, 3 and 2 rates.
    assert output.startswith("tuned: 64 runs to play, about ")
    assert "hours with 4 at once; 0 are kept from before." in output
    assert played == []
    assert not (tmp_path / "lab-runs").exists()


def test_a_report_before_anything_was_run(call: Call, tmp_path: Path) -> None:
    code, output, _ = call("report", written(tmp_path, PLAN))
    assert code == 0
    assert output.startswith("# tiny")
    assert rows_in(output) == []


def test_several_plans_are_reported_one_by_one_and_side_by_side(call: Call, tmp_path: Path) -> None:
    plan = written(tmp_path, PLAN)
    code, output, _ = call("report", plan, plan)
    assert code == 0
    assert output.count("# tiny\n") == 2
    assert output.endswith(
        "# side by side\n\n| method | tiny: iid, 2 of 2, equal | tiny: iid, 2 of 2, equal |\n|---|---|---|\n\n"
    )


def test_a_plan_that_is_not_there(call: Call) -> None:
    code, _, error = call("run", "nowhere.toml")
    assert code == 2
    assert "'nowhere.toml' does not exist" in error


@pytest.mark.parametrize("command", ["run", "report"])
@pytest.mark.parametrize(
    ("was", "is_now", "sentence"),
    [
        ("rounds = 2", "round = 2", "`training.round` is not a known key (1 more after it). Did you mean `rounds`?"),
        ("heads = 2", "head = 2", "there is no option of ravan 'head'. Did you mean `heads`?"),
    ],
)
def test_a_plan_with_a_mistake_is_one_sentence(
    call: Call, tmp_path: Path, command: str, was: str, is_now: str, sentence: str
) -> None:
    code, output, error = call(command, written(tmp_path, PLAN.replace(was, is_now)))
    assert code == 2
    assert output == ""
    assert len(error.splitlines()) == 1
    assert sentence in error


@pytest.mark.parametrize(
    ("was", "is_now", "sentence"),
    [
        (
            'split = "iid"\nclients = 2',
            'split = "natural"\nclients = 3',
            "has 4 clients, not 3. Set clients = 4 there.",
        ),
        ('split = "iid"\nclients = 2', 'split = "dirichlet"\nclients = 10', "Take fewer clients or a larger alpha."),
        ('split = "iid"\nclients = 2', 'split = "iid"\nclients = 10', "fewer than 8 examples. Take fewer clients."),
        ('heads = 2, basis = "normal"', "heads = 40", "The adapter is too large"),
        ('basis = "normal"', 'basis = "odd"', "'odd' is not a valid BasisKind. Correct its options."),
    ],
)
def test_what_only_the_task_can_tell_is_told_before_anything_is_played(
    call: Call, played: list[Cell], tmp_path: Path, was: str, is_now: str, sentence: str
) -> None:
    assert was in PLAN
    code, output, error = call("run", written(tmp_path, PLAN.replace(was, is_now)))
    assert code == 2
    assert output == ""
    assert sentence in error.splitlines()[-1]
    assert played == []


def test_a_damaged_outcome_is_named(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "lab-runs" / "tiny" / "outcomes.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("garbage\n")
    code, _, error = call("report", written(tmp_path, PLAN))
    assert code == 2
    assert "Line 1 of" in error
    assert "is then played again." in error


@pytest.mark.parametrize("arguments", [(), ("run",), ("walk",), ("run", "plan.toml", "--workers", "0")])
def test_wrong_calls_end_with_2(call: Call, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    written(tmp_path, PLAN)
    assert call(*arguments)[0] == 2
