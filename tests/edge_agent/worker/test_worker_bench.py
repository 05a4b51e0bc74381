"""What the worker keeps between orders and what it drops, and how orders that read or measure are called off."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_jobs import ROWS, TinyJob, tiny_job, write_rows

from edge_agent.config import load_config
from edge_agent.data.batches import deal_batches
from edge_agent.hardware.limits import LimitReader
from edge_agent.training.outcome import TrainingCancelledError, TrainingOutcome
from edge_agent.training.outcome_file import read_outcome
from edge_agent.training.trainer import TrainingOrder, train
from edge_agent.worker.bench import Bench, JobFiles
from edge_agent.worker.orders import Answer, Call, ForgetJob, MeasureJob, Order, Progress, ReadData
from edge_agent.worker.port import untold
from edge_agent.worker.training import RefreshData, TrainRound
from ravan.adapters.basis import drawn_bases
from ravan.adapters.planned_bases import BasisFiles
from ravan.adapters.state import encode_state, initial_state
from ravan.data.examples import read_examples
from ravan.data.source import DataSource
from ravan.errors import DataError
from ravan.ids import Digest
from ravan.tasks.calibration import CalibratedTask
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel

A, B = Digest(b"a" * 32), Digest(b"b" * 32)


@dataclass
class Site:
    """A bench, and a job with rows for it."""

    rows: Path
    job: TinyJob
    bench: Bench

    def files(self, digest: Digest) -> JobFiles:
        return JobFiles(plan=self.job.plan, digest=digest, folder=self.job.folder, bases=BasisFiles())

    def do(self, order: Order[Answer]) -> Answer:
        return order.carry_out(self.bench, Call(tell=untold, cancelled=threading.Event()))

    def read(self, digest: Digest) -> None:
        self.do(ReadData(plan=self.job.plan, digest=digest))

    def spoil(self) -> None:
        """Whoever reads the rows from now on fails."""
        write_rows(self.rows, (("hose burst", "pmup"),))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    torch.set_num_threads(1)
    rows = write_rows(tmp_path / "rows.csv")
    config = tmp_path / "agent.toml"
    config.write_text(f'[data.orders]\npath = "{rows}"\nformat = "csv"\ntext = "text"\nlabel = "label"\n')
    return Site(rows, tiny_job(tmp_path), Bench(load_config(config, {}), 1, LimitReader()))


def test_what_was_read_for_a_job_is_there_until_that_job_is_forgotten(site: Site) -> None:
    site.read(A)
    site.do(ForgetJob(digest=B))
    site.spoil()
    site.do(RefreshData(job=site.files(A)))


def test_what_was_read_for_a_job_that_never_got_ready_is_forgotten_with_it(site: Site) -> None:
    site.read(A)
    site.do(ForgetJob(digest=A))
    site.spoil()
    with pytest.raises(DataError):
        site.do(RefreshData(job=site.files(A)))


def test_a_job_that_is_forgotten_takes_its_own_model_along_and_no_others(site: Site) -> None:
    site.do(RefreshData(job=site.files(A)))
    site.do(ForgetJob(digest=B))
    assert site.bench.holds_model
    site.do(ForgetJob(digest=A))
    assert not site.bench.holds_model


def test_a_measurement_hears_that_it_is_called_off(site: Site) -> None:
    cancelled, told = threading.Event(), list[Progress]()

    def tell(progress: Progress) -> None:
        told.append(progress)
        cancelled.set()

    order = MeasureJob(job=site.files(A), known=None)
    with pytest.raises(TrainingCancelledError):
        order.carry_out(site.bench, Call(tell=tell, cancelled=cancelled))
    assert [progress.done for progress in told] == [1]


@pytest.mark.parametrize("held", [False, True])
def test_reading_again_hears_that_it_is_called_off(site: Site, held: bool) -> None:
    order = RefreshData(job=site.files(A))
    if held:
        before = site.do(order)
        write_rows(site.rows, ROWS * 2)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(TrainingCancelledError):
        order.carry_out(site.bench, Call(tell=untold, cancelled=cancelled))
    # Who comes next is not kept from reading.
    if held:
        assert site.do(order) != before
    else:
        site.do(order)


def in_a_round(site: Site, folder: Path, expected: tuple[float, ...]) -> TrainingOutcome:
    """Train everything as a round's order does, for a plan that expects these frequencies."""
    training = dataclasses.replace(site.job.plan.training, label_frequencies=expected, steps=5)
    plan = dataclasses.replace(site.job.plan, training=training)
    (folder / "version").write_bytes(encode_state(plan, initial_state(plan)))
    order = TrainRound(
        job=dataclasses.replace(site.files(A), plan=plan),
        round_number=1,
        version=folder / "version",
        trained=frozenset((*plan.head_ids(), *plan.dense_ids())),
        scored=frozenset(),
        seed=bytes(8),
        room_bytes=0,
        checkpoint=folder / f"checkpoint-{len(expected)}",
        checkpoint_s=3600.0,
        outcome=folder / "outcome",
    )
    site.do(order)
    outcome = read_outcome(folder / "outcome")
    assert outcome is not None
    return outcome


def by_hand(site: Site, task: TaskModel[Any]) -> TrainingOutcome:
    plan = dataclasses.replace(site.job.plan, training=dataclasses.replace(site.job.plan.training, steps=5))
    rows = read_examples(DataSource(path=site.rows, name="rows"), plan.training)
    data = task.encode(rows)
    order = TrainingOrder(
        plan=plan,
        round_number=1,
        state=initial_state(plan),
        trained=frozenset((*plan.head_ids(), *plan.dense_ids())),
        bases=drawn_bases(plan.adapter),
        held_examples=len(data),
    )
    batches = deal_batches(data, plan.training.batch_size, 0)
    return train(task, order, lambda _: batches, on_step=lambda _: None, cancelled=threading.Event())


def test_a_round_trains_by_the_loss_that_the_plan_says(site: Site, tmp_path: Path) -> None:
    """The rows have eight pumps, four engines and four cabs."""
    own, expected = (8 / 16, 4 / 16, 4 / 16), (0.2, 0.3, 0.5)
    task = load_task_model(site.job.folder, site.job.plan.training)
    plain, calibrated = in_a_round(site, tmp_path, ()), in_a_round(site, tmp_path, expected)
    assert same_deltas(plain, by_hand(site, task))
    assert same_deltas(calibrated, by_hand(site, CalibratedTask(task, own, expected)))
    assert not same_deltas(plain, calibrated)


def same_deltas(one: TrainingOutcome, other: TrainingOutcome) -> bool:
    assert one.deltas.keys() == other.deltas.keys()
    return all(np.allclose(one.deltas[block], other.deltas[block], atol=1e-6) for block in one.deltas)
