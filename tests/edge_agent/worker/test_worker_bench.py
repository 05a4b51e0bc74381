"""What the worker keeps between orders and what it drops, and how orders that read or measure are called off."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_jobs import ROWS, TinyJob, tiny_job, write_rows

from edge_agent.config import load_config
from edge_agent.hardware.limits import LimitReader
from edge_agent.training.outcome import TrainingCancelledError
from edge_agent.worker.bench import Bench, JobFiles
from edge_agent.worker.orders import Answer, Call, ForgetJob, MeasureJob, Order, Progress, ReadData
from edge_agent.worker.port import untold
from edge_agent.worker.training import RefreshData
from ravan.errors import DataError
from ravan.ids import Digest

A, B = Digest(b"a" * 32), Digest(b"b" * 32)


@dataclass
class Site:
    """A bench, and a job with rows for it."""

    rows: Path
    job: TinyJob
    bench: Bench

    def files(self, digest: Digest) -> JobFiles:
        return JobFiles(plan=self.job.plan, digest=digest, folder=self.job.folder, bases={})

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
