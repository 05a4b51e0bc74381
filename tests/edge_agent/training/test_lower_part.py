"""The cache of frozen lower layers: the same bits as without it, the layers run once, and nothing kept in doubt."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_tasks import BareTask, token_texts
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of
from tiny_jobs import LABELS, TinyJob, tiny_job
from torch import Tensor, nn

from edge_agent.data.batches import deal_batches
from edge_agent.training.lower_part import LowerPart, _usual_longest, is_worth_keeping, layers_below
from edge_agent.training.outcome import TrainingOutcome
from edge_agent.training.trainer import TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.model import inject
from ravan.adapters.state import initial_state
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel
from ravan.tasks.texts import TokenisedTexts
from simulation.tiny_text_model import SPECIAL, WORDS

EXAMPLES, BATCH = 22, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On some processors two threads compute a text by its place in the batch, and nothing would be kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PLENTY = 1 << 30


def some_texts(longest: int = 13, shortest: int = 3, count: int = EXAMPLES) -> TokenisedTexts:
    """Random texts of every length between; one of the longest is among them."""
    draws = np.random.default_rng(5)
    lengths = np.append(draws.integers(shortest, longest + 1, count - 1), longest)
    words = draws.integers(len(SPECIAL), len(SPECIAL) + len(WORDS), int(lengths.sum()))
    return token_texts(words, lengths, draws.integers(0, len(LABELS), count), 0)


class Site:
    """A tiny model of two layers, and how often its lowest one really computed."""

    def __init__(self, root: Path, **training: Any) -> None:
        self.job: TinyJob = tiny_job(root, batch_size=BATCH, **training)
        self.plan: JobPlan = self.job.plan
        self.task: TaskModel[Any] = load_task_model(self.job.folder, self.plan.training)
        self.model: Any = self.task.model
        self.data = some_texts()
        self.computed = 0
        self.lowest.intermediate.register_forward_hook(self._count)

    @property
    def lowest(self) -> Any:
        return self.model.bert.encoder.layer[0]

    def _count(self, *_: object) -> None:
        self.computed += 1

    def top(self, matrices: int) -> frozenset[BlockId]:
        chosen = {m.ordinal for m in self.plan.matrices[len(self.plan.matrices) - matrices :]}
        return frozenset(self.plan.dense_ids()) | {b for b in self.plan.head_ids() if b.matrix in chosen}

    def batches(self, length: int = 13) -> Iterator[Batch]:
        return deal_batches(self.data, BATCH, seed=1, length=length)

    def train(self, room_bytes: int, trained: frozenset[BlockId], length: int = 13) -> TrainingOutcome:
        self.computed = 0
        draws = np.random.default_rng(2)
        state = {
            block: (array + draws.normal(scale=0.1, size=array.shape)).astype(np.float32)
            for block, array in initial_state(self.plan).items()
        }
        order = TrainingOrder(
            plan=self.plan,
            round_number=1,
            state=state,
            trained=trained,
            bases=drawn_bases(self.plan.adapter),
            held_examples=len(self.data),
            room_bytes=room_bytes,
        )
        return train(
            self.task, order, lambda _: self.batches(length), on_step=lambda _: None, cancelled=threading.Event()
        )

    def lower_part(self, room_bytes: int = PLENTY) -> LowerPart:
        inject(self.model, self.plan, initial_state(self.plan), self.top(1), drawn_bases(self.plan.adapter))
        layers = layers_below(self.model, self.plan, self.top(1))
        return LowerPart(self.task, layers, len(self.data), room_bytes)


def equal(one: TrainingOutcome, other: TrainingOutcome) -> bool:
    same = all(torch.equal(torch.from_numpy(one.deltas[b]), torch.from_numpy(other.deltas[b])) for b in one.deltas)
    return same and one.deltas.keys() == other.deltas.keys() and one.statistics == other.statistics


@pytest.mark.parametrize("matrices", [1, 2])
def test_deltas_are_the_same_bits_and_the_lower_layers_run_for_one_pass(tmp_path: Path, matrices: int) -> None:
    site = Site(tmp_path, steps=30)
    without = site.train(0, site.top(matrices))
    assert site.computed == 30
    cached = site.train(PLENTY, site.top(matrices))
    assert equal(without, cached)
    # 22 examples are in the first six batches of four; the trial at the first computes them once more.
    assert site.computed == 6 + 1
    assert any(delta.any() for delta in cached.deltas.values())


def test_batches_that_are_padded_each_to_its_own_length_give_the_same_bits_too(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=40)
    without = site.train(0, site.top(2), length=0)
    assert equal(without, site.train(PLENTY, site.top(2), length=0))


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path, steps=30)
    site.train(PLENTY, site.top(2))
    assert "forward" not in vars(site.lowest)
    assert len(site.lowest._forward_hooks) == 0


def test_outputs_without_padding_serve_batches_without_padding_alone(tmp_path: Path) -> None:
    """A model drops a mask of ones, and another kernel may then compute."""
    site = Site(tmp_path)
    lower = site.lower_part()
    long, short = EXAMPLES - 1, int(np.argmin(site.data.lengths))
    mixed = site.data.gather([long, short])
    lower.logits(mixed)
    before = site.computed
    full = site.data.gather([long, long])
    assert torch.equal(lower.logits(full), site.task.logits(full))
    assert site.computed == before + 2, "both computed"
    assert torch.equal(lower.logits(full), site.task.logits(full))
    assert site.computed == before + 3, "the first came from the cache"
    assert torch.equal(lower.logits(mixed), site.task.logits(mixed))
    assert site.computed == before + 5, "one example is now known without padding alone"


@pytest.mark.parametrize(("missing", "kept"), [(0, BATCH), (1, 0)])
def test_nothing_is_kept_that_does_not_fit(tmp_path: Path, missing: int, kept: int) -> None:
    site = Site(tmp_path)
    needed = 4 * EXAMPLES * 13 * 16
    lower = site.lower_part(needed - missing)
    lower.logits(next(site.batches()))
    assert lower.kept == kept


def test_nothing_is_kept_where_outputs_depend_on_the_place_in_the_batch(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.lowest.output.register_forward_hook(lambda _module, _inputs, y: y + torch.arange(len(y))[:, None, None])
    lower = site.lower_part()
    for batch in islice(site.batches(), 12):
        assert torch.equal(lower.logits(batch), site.task.logits(batch))
    assert lower.kept == 0


@dataclass
class Answer:
    logits: Tensor


class Config:
    model_type = "skipping"


class Skipping(nn.Module):
    """A model that looks past its layers, or whose layers give more than their outputs."""

    def __init__(self, *, tupled: bool, skips: bool) -> None:
        super().__init__()
        self.tupled, self.skips, self.config = tupled, skips, Config()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.requires_grad_(False)
        if tupled:
            for layer in self.layers:
                layer.register_forward_hook(lambda _module, _inputs, output: (output, None))
        self.seen = torch.zeros(())
        self.layers[0].register_forward_pre_hook(self._look)

    def _look(self, _module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.seen = inputs[0]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Answer:
        y = torch.stack([input_ids, attention_mask], -1).float()
        for layer in self.layers:
            y = layer(y)[0] if self.tupled else layer(y)
        if self.skips:
            y = y + self.layers[1](self.seen)
        return Answer(y[:, 0])


@pytest.mark.parametrize(("tupled", "skips", "kept"), [(False, False, BATCH), (True, False, 0), (False, True, 0)])
def test_nothing_is_kept_of_a_model_of_another_build(tupled: bool, skips: bool, kept: int) -> None:
    torch.manual_seed(1)
    model = Skipping(tupled=tupled, skips=skips)
    task = BareTask(model, plan_of(0).training)
    lower = LowerPart(task, tuple(model.layers)[:2], EXAMPLES, PLENTY)
    for batch in islice(deal_batches(some_texts(), BATCH, seed=1, length=13), 3):
        assert torch.equal(lower.logits(batch), task.logits(batch))
    assert lower.kept == 3 * kept


def test_nothing_is_kept_above_what_is_trained(tmp_path: Path) -> None:
    site = Site(tmp_path)
    lower = site.lower_part()
    site.model.bert.embeddings.LayerNorm.bias.requires_grad_()
    lower.logits(next(site.batches())).sum().backward()  # type: ignore[no-untyped-call]
    assert lower.kept == 0
    assert site.model.bert.embeddings.LayerNorm.bias.grad is not None


def test_backward_does_not_enter_the_lower_part(tmp_path: Path) -> None:
    site = Site(tmp_path)
    lower = site.lower_part()
    entered: list[bool] = []
    site.lowest.register_full_backward_hook(lambda *_: entered.append(True))
    for batch in islice(site.batches(), 8):
        lower.logits(batch).sum().backward()  # type: ignore[no-untyped-call]
    assert lower.kept == EXAMPLES
    assert not entered


def names(plan: JobPlan, *chosen: str) -> JobPlan:
    matrices = tuple(
        dataclasses.replace(matrix, name=name) for matrix, name in zip(plan.matrices, chosen, strict=False)
    )
    return dataclasses.replace(plan, matrices=matrices)


class Encoder(nn.Module):
    """Four layers, each a list of its own parts, and a linear outside of all lists."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]) for _ in range(4))
        self.head = nn.Linear(2, 2)


@pytest.mark.parametrize(("name", "below"), [("blocks.0.1", 0), ("blocks.1.0", 1), ("blocks.3.1", 3), ("head", 0)])
def test_the_layers_are_found_in_the_outermost_list(name: str, below: int) -> None:
    model, plan = Encoder(), names(plan_of(2), name, "blocks.3.1")
    assert layers_below(model, plan, frozenset(plan.head_ids())) == tuple(model.blocks)[:below]


def test_without_a_trained_head_no_layer_is_below_one() -> None:
    plan = names(plan_of(1), "blocks.3.1")
    assert layers_below(Encoder(), plan, frozenset(plan.dense_ids())) == ()


def worth(lengths: list[int], *, lowest: int = 3, room_bytes: int = PLENTY) -> bool:
    """Ask for the encoder of four layers, 50 steps of 4 texts, and heads from layer `lowest` up."""
    plan = names(plan_of(1), f"blocks.{lowest}.0")
    plan = dataclasses.replace(plan, training=dataclasses.replace(plan.training, steps=50, batch_size=4))
    return is_worth_keeping(Encoder(), plan, frozenset(plan.head_ids()), np.array(lengths, np.int64), room_bytes)


def test_outputs_are_worth_keeping_where_the_data_comes_again_and_all_fit() -> None:
    width = plan_of(1).matrices[0].in_features
    assert worth([7] * 100, room_bytes=4 * 100 * 7 * width)
    assert not worth([7] * 100, room_bytes=4 * 100 * 7 * width - 1)
    # 50 steps of 4 texts come to each of 200 once.
    assert not worth([7] * 200)


def test_outputs_are_not_worth_padding_everything_to_one_long_text() -> None:
    # By hand, in passes of a layer: 3 frozen and 1 trained at 3 take 6. Kept: 3 + 3 / 2 + 2 * 4 / 50 = 4.66.
    # One text of 100 in four makes batches of 10 or 11 tokens longer only now and then.
    assert worth([10] * 99 + [12])
    assert not worth([10] * 99 + [14])


def test_less_below_saves_less() -> None:
    # Batches come to 9.8 tokens or so where all are padded to 10.
    lengths = [9] * 50 + [10] * 50
    assert [worth(lengths, lowest=lowest) for lowest in range(4)] == [False, True, True, True]
    # With a tenth more padding one frozen layer of four (10 passes, 9.66 kept) does not make up for it.
    assert not worth([9] * 99 + [10], lowest=1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 4))
def test_the_usual_longest_text_is_the_mean_over_all_batches(lengths: list[int], size: int) -> None:
    batches = [max(batch) for batch in itertools.product(lengths, repeat=size)]
    found = _usual_longest(np.array(lengths, np.int64), size)
    assert found == pytest.approx(sum(batches) / len(batches), rel=1e-12)
