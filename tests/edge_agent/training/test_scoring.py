"""Scores of a tiny model against plain autograd on W + sum_i B_i P_i A_i, in float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_jobs import LABELS, TinyJob, tiny_job
from tiny_text_model import SPECIAL, WORDS
from torch import Tensor
from torch.func import functional_call

from edge_agent.training.scoring import score_heads
from ravan.adapters.basis import draw_basis, drawn_bases
from ravan.adapters.state import FloatArray, ModelState, initial_state
from ravan.errors import DataError, ErrorReason
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan
from ravan.tasks.batch import Batch
from ravan.tasks.loading import load_task_model
from ravan.tasks.task_model import TaskModel
from ravan.tasks.texts import noisy_texts


class Bench:
    """A model, a state in which heads have moved, and a batch."""

    def __init__(self, root: Path) -> None:
        job: TinyJob = tiny_job(root, heads=3)
        self.plan: JobPlan = job.plan
        self.task: TaskModel[Any] = load_task_model(job.folder, job.plan.training)
        generator = np.random.default_rng(11)
        self.state: ModelState = {
            # Dense weights are far larger than fresh ones: gradients that reach the heads are then no rounding noise.
            block: (20 * array + generator.normal(0, 0.2, array.shape)).astype(np.float32)
            for block, array in initial_state(job.plan).items()
        }
        self.batch: Batch = noisy_texts(6, 10, len(SPECIAL) + len(WORDS), len(LABELS), seed=2)

    def heads(self, *matrices: int) -> frozenset[BlockId]:
        return frozenset(head for head in self.plan.head_ids() if head.matrix in matrices)

    def scores(self, heads: frozenset[BlockId], state: ModelState | None = None) -> dict[BlockId, float]:
        bases = drawn_bases(self.plan.adapter)
        return score_heads(self.task, self.plan, state or self.state, heads, bases, self.batch)

    def gradient_norms(self) -> dict[BlockId, float]:
        """One product at a time, through weights that are written out."""
        model = copy.deepcopy(self.task.model).double()
        products = {head: torch.from_numpy(self.state[head]).double() for head in self.plan.head_ids()}
        norms = {}
        for chosen in self.plan.head_ids():
            product = products[chosen].clone().requires_grad_()
            logits = functional_call(
                model,
                self._weights(products | {chosen: product}),
                kwargs=dict(self.batch.inputs),
            ).logits
            loss = -torch.log_softmax(logits, 1)[torch.arange(6), self.batch.labels].mean()
            (gradient,) = torch.autograd.grad(loss, product)
            norms[chosen] = float((gradient**2).sum() ** 0.5)
        return norms

    def _weights(self, products: dict[BlockId, Tensor]) -> dict[str, Tensor]:
        weights = {}
        for matrix in self.plan.matrices:
            basis = draw_basis(self.plan.adapter, matrix.ordinal, matrix.out_features, matrix.in_features)
            weight = self.task.model.get_parameter(f"{matrix.name}.weight").detach().double()
            for head in self.heads(matrix.ordinal):
                b, a = (torch.from_numpy(side[head.index]).double() for side in (basis.b, basis.a))
                weight = weight + b @ products[head] @ a
            weights[f"{matrix.name}.weight"] = weight
        dense = zip(self.plan.dense_ids(), self.plan.dense, strict=True)
        return weights | {each.name: torch.from_numpy(self.state[block]).double() for block, each in dense}


def test_scores_are_the_norms_of_the_gradients_as_shares_of_the_largest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    norms = bench.gradient_norms()
    scores = bench.scores(frozenset(norms))
    largest = max(norms.values())
    assert max(scores.values()) == 1.0
    assert min(scores.values()) < 0.5
    assert scores == pytest.approx({head: norm / largest for head, norm in norms.items()}, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("matrices", [(3,), (1, 3), (0,)])
def test_a_part_of_the_heads_is_scored_among_themselves(tmp_path: Path, matrices: tuple[int, ...]) -> None:
    bench = Bench(tmp_path)
    norms = {head: norm for head, norm in bench.gradient_norms().items() if head in bench.heads(*matrices)}
    largest = max(norms.values())
    expected = {head: norm / largest for head, norm in norms.items()}
    assert bench.scores(bench.heads(*matrices)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_nothing_of_the_scoring_stays_in_the_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model = bench.task.model
    frozen = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("classifier")}
    bench.scores(bench.heads(0, 1, 2, 3))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_slope_scores_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flat: dict[BlockId, FloatArray] = {
        block: array if block in bench.plan.head_ids() else np.zeros_like(array) for block, array in bench.state.items()
    }
    heads = bench.heads(2, 3)
    assert bench.scores(heads, flat) == dict.fromkeys(heads, 0.0)


def test_numbers_that_are_not_finite_give_no_scores_and_leave_the_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    names = [name for name, _ in bench.task.model.named_modules()]
    weight = bench.plan.dense_ids()[0]
    broken = {**bench.state, weight: np.full_like(bench.state[weight], np.nan)}
    with pytest.raises(DataError) as caught:
        bench.scores(bench.heads(3), broken)
    assert caught.value.reason is ErrorReason.MALFORMED
    assert caught.value.next_step
    assert [name for name, _ in bench.task.model.named_modules()] == names
