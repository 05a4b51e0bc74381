"""Training that stands still in the middle of a step: the same bits afterwards, and a way to call it off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from tiny_jobs import tiny_job, write_rows

from edge_agent.data.batches import deal_batches
from edge_agent.host.gate import TrainingGate
from edge_agent.host.verdict import HostTerms, PauseReason, Readings
from edge_agent.host.watch import HostWatch
from edge_agent.training.outcome import TrainingCancelledError, TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.state import initial_state
from ravan.clock import ManualClock
from ravan.data.examples import read_examples
from ravan.data.source import DataSource
from ravan.errors import ErrorReason, ResourceError
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model

PATIENCE_S = 60


class StubbornGate(TrainingGate):
    """Closes by itself before the n-th pass, and says where it was."""

    def __init__(self, close_before: int) -> None:
        super().__init__()
        self.passes = 0
        self.reached = threading.Event()
        self._close_before = close_before

    def go_through(self) -> None:
        self.passes += 1
        if self.passes == self._close_before:
            self.close()
            self.reached.set()
        super().go_through()


class Site:
    """A site that trains three steps."""

    def __init__(self, root: Path) -> None:
        job = tiny_job(root, steps=3)
        self.plan = job.plan
        self.task = load_task_model(job.folder, self.plan.training)
        rows = DataSource(path=write_rows(root / "rows.csv"), name="rows")
        self.data = self.task.encode(read_examples(rows, self.plan.training))
        self.steps = 0
        self.cancelled = threading.Event()

    def train(self, gate: TrainingGate) -> TrainingOutcome:
        self.steps = 0
        order = TrainingOrder(
            plan=self.plan,
            round_number=1,
            state=initial_state(self.plan),
            trained=frozenset(self.plan.dense_ids()) | frozenset(self.plan.head_ids()),
            bases=drawn_bases(self.plan.adapter),
            held_examples=len(self.data),
            gate=gate,
        )

        def deal(first: int) -> Iterator[Batch]:
            return deal_batches(self.data, self.plan.training.batch_size, seed=3, first=first)

        return train(
            self.task, order, deal, on_step=lambda report: setattr(self, "steps", report.done), cancelled=self.cancelled
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    torch.set_num_threads(1)
    return Site(tmp_path)


def start(site: Site, gate: TrainingGate) -> tuple[threading.Thread, list[object]]:
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(site.train(gate))
        except TrainingCancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


@pytest.mark.parametrize("close_before", [1, 2, 3, 4, 5, 6, 7])
def test_it_stands_still_within_a_step_and_goes_on_with_the_same_bits(site: Site, close_before: int) -> None:
    unbroken = site.train(TrainingGate())
    gate = StubbornGate(close_before)
    thread, ended = start(site, gate)
    assert gate.reached.wait(PATIENCE_S)
    # Two layers are passed forward and backward in each of three steps.
    assert site.steps == (close_before - 1) // 4
    thread.join(0.3)
    assert thread.is_alive()
    assert gate.passes == close_before
    gate.open()
    thread.join(PATIENCE_S)
    [found] = ended
    assert isinstance(found, TrainingOutcome)
    assert gate.passes == 12
    for block, delta in unbroken.deltas.items():
        assert found.deltas[block].tobytes() == delta.tobytes()


@pytest.mark.parametrize("close_before", [1, 3, 5])
def test_who_stands_at_the_gate_can_be_called_off(site: Site, close_before: int) -> None:
    gate = StubbornGate(close_before)
    thread, ended = start(site, gate)
    assert gate.reached.wait(PATIENCE_S)
    site.cancelled.set()
    thread.join(PATIENCE_S)
    assert [type(each) for each in ended] == [TrainingCancelledError]
    site.cancelled.clear()
    assert site.train(TrainingGate()).deltas


class CallingOffGate(TrainingGate):
    """Has the work called off at the n-th pass, and never closes."""

    def __init__(self, at: int, site: Site) -> None:
        super().__init__()
        self.passes = 0
        self._at, self._site = at, site

    def go_through(self) -> None:
        self.passes += 1
        if self.passes == self._at:
            self._site.cancelled.set()
        super().go_through()


@pytest.mark.parametrize("at", [1, 2, 3, 6, 7])
def test_who_is_called_off_ends_at_an_open_gate_within_the_step(site: Site, at: int) -> None:
    gate = CallingOffGate(at, site)
    with pytest.raises(TrainingCancelledError):
        site.train(gate)
    assert gate.passes == at
    site.cancelled.clear()
    assert site.train(TrainingGate()).deltas


def test_no_hook_stays_on_the_model(site: Site) -> None:
    site.train(TrainingGate())
    assert not any(module._forward_hooks for module in site.task.model.modules())


def watch(terms: HostTerms) -> tuple[HostWatch, list[bool]]:
    told: list[bool] = []
    return HostWatch(terms, lambda: pytest.fail("looked by itself"), told.append, told.append), told


def shown(busy: float = 0.0, *, battery: bool = False) -> Readings:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(ManualClock().now(), UTC)
    return Readings(moment=moment, busy_share=busy, on_battery=battery)


def test_the_watch_begins_and_ends_a_pause_and_says_why_once() -> None:
    looked, told = watch(HostTerms(busy_share=0.5))
    with capture_logs() as lines:
        for busy in (0.1, 0.9, 0.9, 0.45, 0.1, 0.1):
            looked.take(shown(busy))
            assert (looked.reason is not None) == (busy > 0.4)
    # Both who are to know, each once.
    assert told == [True, True, False, False]
    assert [line.get("why") or line["after"] for line in lines] == [PauseReason.BUSY.value] * 2


def test_no_round_is_begun_on_battery_but_one_is_while_the_pc_is_busy() -> None:
    looked, _ = watch(HostTerms(busy_share=0.5))
    looked.check()
    looked.take(shown(0.9))
    looked.check()
    looked.take(shown(battery=True))
    with pytest.raises(ResourceError) as caught:
        looked.check()
    assert caught.value.reason is ErrorReason.HOST_BUSY
