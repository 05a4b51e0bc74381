"""The product's runs beside the simulator's: which can be played, as which jobs, and how they are kept and compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from coordinator.jobs.jobfile import ExpectedLabels, JobFile, read_job_file
from deploy.demo.job import write_job
from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.product.confirmation import ProductFile, final_accuracies, say_confirmation
from lab.product.played_cell import check_playable, check_rounds, job_settings, write_files
from lab.study.cell import Cell, Federation, Part, Training
from lab.tasks.work_orders import load_work_orders
from ravan.errors import ConfigError, DataError, StateError
from ravan.manifest.plan import BasisKind
from ravan.wire.v1.operator_service_pb2 import Job, Round, SiteRound

CELL = Cell(
    task="work_orders",
    federation=Federation(split=Split.NATURAL, clients=5, per_round=5),
    training=Training(
        rounds=8,
        steps=12,
        batch_size=16,
        dense_learning_rate=0.02,
        learning_rate_decay=1.0,
        lora_rank=8,
        average_last=2,
    ),
    method="ravan",
    options=(("expected_labels", "held_out"), ("threshold", 3)),
    learning_rate=0.01,
    seed=4,
    part=Part.TEST,
)


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({"task": "images"}, "task = 'work_orders'"),
        ({"method": "fedit"}, "kind = 'ravan'"),
        ({"options": (("threshold", 3), ("heads", 1))}, "options among basis, expected_labels, threshold"),
        ({"options": ()}, "threshold = 3"),
        ({"federation": replace(CELL.federation, split=Split.IID)}, "split = 'natural'"),
        ({"federation": replace(CELL.federation, per_round=4)}, "per_round = 5"),
        ({"federation": replace(CELL.federation, capacities=Capacities.SKEWED)}, "capacities = 'equal'"),
    ],
)
def test_what_the_product_is_not_set_up_for_is_refused(change: dict[str, object], needed: str) -> None:
    check_playable(CELL)
    with pytest.raises(ConfigError) as refused:
        check_playable(replace(CELL, **change))  # type: ignore[arg-type]
    assert needed in str(refused.value)
    assert refused.value.next_step


def read(path: Path) -> JobFile:
    return read_job_file(path.read_text(encoding="utf-8"), source=str(path))


def test_a_job_trains_as_its_cell_says(tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.csv"
    held_out.touch()
    job = read(write_job(job_settings(CELL, 1), held_out, tmp_path / "job.toml"))
    training = job.training
    assert (job.job.rounds, training.steps, training.batch_size) == (8, 12, 16)
    assert (training.learning_rate, training.dense_learning_rate, training.learning_rate_decay) == (0.01, 0.02, 1.0)
    assert training.expected_labels is ExpectedLabels.HELD_OUT
    assert (job.adapter.heads, job.adapter.lora_rank, job.secure_aggregation.bundle_threshold) == (4, 8, 3)
    plain = write_job(job_settings(replace(CELL, options=(("threshold", 3),)), 2), held_out, tmp_path / "plain.toml")
    assert read(plain).training.expected_labels is ExpectedLabels.LOCAL
    assert read(plain).adapter.basis is BasisKind.GRAM_SCHMIDT
    options = (("basis", "aligned"), ("threshold", 3))
    aligned = write_job(job_settings(replace(CELL, options=options), 3), held_out, tmp_path / "aligned.toml")
    assert read(aligned).adapter.basis is BasisKind.ALIGNED


def test_its_files_hold_the_examples_that_the_simulator_trains_and_tests_on(tmp_path: Path) -> None:
    write_files(tmp_path)
    lab = load_work_orders()
    rows = {path.stem: list(csv.DictReader(StringIO(path.read_text(encoding="utf-8")))) for path in tmp_path.iterdir()}
    assert len(rows.pop("held-out")) == len(lab.validation)
    assert len(rows.pop("test")) == len(lab.test)
    assert [len(rows[f"site-{site}"]) for site in "abcde"] == [int((lab.owners == i).sum()) for i in range(5)]
    labels = lab.task.training.labels
    for index, site in enumerate("abcde"):
        mine = [labels[label] for label in lab.labels[lab.owners == index]]
        assert [row["subsystem"] for row in rows[f"site-{site}"]] == mine


def job_with(heads: list[int], completed: int = 5) -> Job:
    sites = [SiteRound(site=site, heads=count) for site, count in zip("abcde", heads, strict=True)]
    done = Round(number=1, sites=sites, completed=list("abcde")[:completed], accuracy=0.5)
    return Job(name="run-1", rounds=[done, Round(number=2, sites=sites, completed=list("abcde"), accuracy=0.75)])


def test_a_round_without_a_site_or_with_fewer_heads_is_not_what_the_simulator_plays() -> None:
    check_rounds(job_with([48] * 5))
    for other in (job_with([48, 48, 36, 48, 48]), job_with([48] * 5, completed=4)):
        with pytest.raises(StateError, match="In round 1 of run-1"):
            check_rounds(other)


def test_runs_are_kept_by_plan_whatever_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "study" / "product.jsonl"
    file = ProductFile(path, CELL)
    assert file.runs == []
    file.add((0.5, 0.6, 0.8))
    ProductFile(path, replace(CELL, learning_rate=0.03)).add((0.1, 0.1, 0.1))
    ProductFile(path, replace(CELL, seed=9)).add((0.4, 0.7, 0.7))
    runs = ProductFile(path, CELL).runs
    assert runs == [(0.5, 0.6, 0.8), (0.4, 0.7, 0.7)]
    assert final_accuracies(runs, 2) == pytest.approx([0.7, 0.7])
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(DataError, match="Line 4 of ") as refused:
        ProductFile(path, CELL)
    assert refused.value.next_step


def test_both_figures_are_said_with_their_difference() -> None:
    text = say_confirmation([0.75, 0.73], [0.73, 0.74, 0.75])
    assert "product    74.00 %, sd 1.41, 2 runs" in text
    assert "simulator  74.00 %, sd 1.00, 3 runs" in text
    assert "difference +0.00 ± " in text
    assert "run the plan with `python -m lab run`" in say_confirmation([0.75], [])
