"""Training that is broken off and goes on: the same bits, whatever was on disk."""

from __future__ import annotations

import dataclasses
import io
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_jobs import tiny_job, write_rows

from edge_agent.data.batches import deal_batches
from edge_agent.training import checkpoint
from edge_agent.training.checkpoint import Checkpoint, CheckpointFile
from edge_agent.training.hashed_file import write_hashed
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from edge_agent.training.outcome_file import read_outcome, write_outcome
from edge_agent.training.trainer import StepReport, TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.state import initial_state
from ravan.data.examples import read_examples
from ravan.data.source import DataSource
from ravan.disk import disk_full
from ravan.ids import BlockId, BlockKind
from ravan.secagg.statistics import LocalStatistics
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model

STEPS = 7


class PowerCutError(Exception):
    """The process is gone."""


class Site:
    """A site that trains one round, in one process after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        job = tiny_job(root, steps=STEPS)
        self.plan = job.plan
        self.task = load_task_model(job.folder, self.plan.training)
        rows = DataSource(path=write_rows(root / "rows.csv"), name="rows")
        self.data = self.task.encode(read_examples(rows, self.plan.training))
        self.trained = frozenset(self.plan.dense_ids()) | frozenset(self.plan.head_ids()[-4:])
        self.scored = frozenset(self.plan.head_ids()[-2:])
        self.reports: list[int] = []

    def train(
        self,
        checkpoints: CheckpointFile | None = None,
        *,
        cut_at: int | None = None,
        scored: bool = False,
        room_bytes: int = 0,
    ) -> TrainingOutcome:
        """Train; the power goes when `cut_at` steps are done."""
        left = checkpoints.read() if checkpoints is not None else None
        length = int(self.data.lengths.max())
        order = TrainingOrder(
            plan=self.plan,
            round_number=1,
            state=initial_state(self.plan),
            trained=self.trained,
            bases=drawn_bases(self.plan.adapter),
            held_examples=len(self.data),
            scored=self.scored if scored else frozenset(),
            room_bytes=room_bytes,
            length=length,
            left=left,
            checkpoints=checkpoints,
        )

        def deal(first: int) -> Iterator[Batch]:
            return deal_batches(self.data, self.plan.training.batch_size, seed=3, length=length, first=first)

        def tell(report: StepReport) -> None:
            self.reports.append(report.done)
            if report.done == cut_at:
                raise PowerCutError

        return train(self.task, order, deal, on_step=tell, cancelled=threading.Event())

    def file(self, every_s: float = 0.0, origin: tuple[int, ...] = (1, 2)) -> CheckpointFile:
        return CheckpointFile(self.root / "checkpoint", origin, every_s=every_s)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def assert_same(found: TrainingOutcome, expected: TrainingOutcome) -> None:
    assert found.deltas.keys() == expected.deltas.keys()
    for block, delta in expected.deltas.items():
        assert found.deltas[block].tobytes() == delta.tobytes()
    assert found.statistics == expected.statistics
    assert found.scores == expected.scores


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("room_bytes", [0, 1 << 30])
def test_it_goes_on_from_the_last_checkpoint_with_the_same_bits(site: Site, scored: bool, room_bytes: int) -> None:
    unbroken = site.train(scored=scored, room_bytes=room_bytes)
    for cut_at in (0, 2, 5, STEPS):
        with pytest.raises(PowerCutError):
            site.train(site.file(), cut_at=cut_at, scored=scored, room_bytes=room_bytes)
    site.reports.clear()
    assert_same(site.train(site.file(), scored=scored, room_bytes=room_bytes), unbroken)
    # The last cut came after the last step, whose checkpoint was on disk: nothing was trained a second time.
    assert site.reports == [STEPS]


def test_what_is_lost_is_the_steps_since_the_last_checkpoint(site: Site) -> None:
    unbroken = site.train()
    # The clock moves on by a second whenever it is looked at: when the file is made, once a step, once a checkpoint.
    now = iter(range(100))
    file = CheckpointFile(site.root / "checkpoint", (1, 2), every_s=4, clock=lambda: float(next(now)))
    with pytest.raises(PowerCutError):
        site.train(file, cut_at=6)
    site.reports.clear()
    assert_same(site.train(site.file()), unbroken)
    assert site.reports[0] == 4


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", None])
def test_a_damaged_checkpoint_has_training_begin_anew(site: Site, content: bytes | None) -> None:
    unbroken = site.train()
    with pytest.raises(PowerCutError):
        site.train(site.file(), cut_at=4)
    path = site.root / "checkpoint"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    site.reports.clear()
    assert_same(site.train(site.file()), unbroken)
    assert site.reports[0] == 0


def test_a_checkpoint_of_other_data_is_none(site: Site) -> None:
    with pytest.raises(PowerCutError):
        site.train(site.file(), cut_at=4)
    assert site.file().read() is not None
    assert site.file(origin=(1, 3)).read() is None


def test_a_checkpoint_of_other_heads_has_training_begin_anew(site: Site) -> None:
    with pytest.raises(PowerCutError):
        site.train(site.file(), cut_at=4)
    site.trained = frozenset(site.plan.dense_ids()) | frozenset(site.plan.head_ids()[-2:])
    site.reports.clear()
    found = site.train(site.file())
    assert site.reports[0] == 0
    assert_same(found, site.train())


def test_a_full_disk_does_not_stop_training(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = site.train()

    def refuse(path: Path, _content: bytes) -> None:
        raise disk_full(path.parent)

    monkeypatch.setattr(checkpoint, "write_hashed", refuse)
    assert_same(site.train(site.file()), unbroken)
    assert not (site.root / "checkpoint").exists()


def test_a_checkpoint_cannot_run_code(site: Site) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a checkpoint ran code",))

    file = io.BytesIO()
    torch.save({"format": 1, "origin": [1, 2], "done": Evil()}, file)
    write_hashed(site.root / "checkpoint", file.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        site.file().read()


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint", (4,), every_s=0)
    written = Checkpoint(
        done=3,
        length=17,
        parameters=(torch.arange(6.0).reshape(2, 3),),
        optimiser={"state": {}, "param_groups": []},
        tally=(3.0, 0.5),
        scores={BlockId(BlockKind.HEAD, 0, 1, 2): 0.25},
    )
    file.write(written)
    read = file.read()
    assert read is not None
    assert torch.equal(read.parameters[0], written.parameters[0])
    assert dataclasses.replace(read, parameters=()) == dataclasses.replace(written, parameters=())


def outcome() -> TrainingOutcome:
    block = BlockId(BlockKind.HEAD, 0, 3, 1)
    return TrainingOutcome(
        deltas={block: np.array([[1.5, -2.25]], np.float32)},
        statistics=LocalStatistics(examples=12, loss_sum=3.75, correct=5),
        held_examples=99,
        scores={block: 0.125},
        cost=TrainingCost(extra_peak_bytes=1 << 33, step_cpu_s=0.5),
    )


def test_an_update_comes_back_as_it_was(tmp_path: Path) -> None:
    write_outcome(tmp_path / "update", outcome())
    read = read_outcome(tmp_path / "update")
    assert read is not None
    assert_same(read, outcome())
    assert (read.held_examples, read.cost) == (99, outcome().cost)
    assert (tmp_path / "update").stat().st_mode & 0o777 == 0o600


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=3))
def test_a_damaged_update_is_none(tmp_path_factory: pytest.TempPathFactory, at: int, put: bytes) -> None:
    path = tmp_path_factory.mktemp("update") / "update"
    write_outcome(path, outcome())
    whole = path.read_bytes()
    at = min(at, len(whole) - len(put))
    damaged = whole[:at] + put + whole[at + len(put) :]
    path.write_bytes(damaged)
    assert (read_outcome(path) is None) == (damaged != whole)
    path.write_bytes(whole[:at])
    assert read_outcome(path) is None
