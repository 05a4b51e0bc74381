"""Moving bases: what a sketch finds, what leads new bases, and that folding changes nothing that the model computes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_lab import MATRICES, cell_of, cohort_of, method_of, same_weights, tiny_task, weights_now

from lab.federation.partition import Split
from lab.methods.moving_ravan.bases import fill_basis
from lab.methods.moving_ravan.method import MovingRavan
from lab.simulation import play_cell
from ravan.adapters.basis import Basis


def test_given_directions_lead_and_the_rest_is_orthonormal_to_them() -> None:
    generator = np.random.default_rng(1)
    drawn = Basis(
        b=generator.standard_normal((3, 20, 4)).astype(np.float32),
        a=generator.standard_normal((3, 4, 16)).astype(np.float32),
    )
    left, _ = np.linalg.qr(generator.standard_normal((20, 6)))
    right = np.linalg.qr(generator.standard_normal((16, 6)))[0].T
    basis = fill_basis(drawn, left, right)
    columns = np.concatenate(list(basis.b), axis=1)
    rows = np.concatenate(list(basis.a))
    assert columns.shape == (20, 12)
    assert np.allclose(columns.T @ columns, np.eye(12), atol=1e-5)
    assert np.allclose(rows @ rows.T, np.eye(12), atol=1e-5)
    # Up to signs, which a core makes good.
    assert np.allclose(np.abs(columns[:, :6].T @ left), np.eye(6), atol=1e-5)
    assert np.allclose(np.abs(rows[:6] @ right.T), np.eye(6), atol=1e-5)


def moving(**options: Any) -> MovingRavan:
    return cast(MovingRavan, method_of("moving_ravan", **options))


def logits_of(method: MovingRavan) -> torch.Tensor:
    lab = tiny_task()
    with method.installed(), torch.inference_mode():
        return lab.task.logits(lab.test.gather(range(len(lab.test)))).clone()


@pytest.mark.parametrize("move", ["random", "aligned", "held_out"])
def test_moving_changes_the_bases_and_nothing_that_the_model_computes(move: str) -> None:
    method = moving(move=move, every=1, first=2, width=4)
    method.play(1, cohort_of(method.bench, 1))
    before, plan, bases = logits_of(method), method.plan, method.bases
    method._move_bases(2, cohort_of(method.bench, 2))
    assert torch.allclose(logits_of(method), before, atol=1e-5)
    assert method.plan.adapter.epoch == plan.adapter.epoch + 1
    assert not any(method.state[block].any() for block in method.plan.head_ids())
    for matrix in plan.matrices:
        assert not np.array_equal(method.bases(matrix).b, bases(matrix).b)
    learnt = logits_of(method)
    method.play(3, cohort_of(method.bench, 3))
    assert not torch.equal(logits_of(method), learnt)


def test_the_base_model_is_as_before_after_every_round() -> None:
    before = weights_now()
    play_cell(cell_of("moving_ravan", rounds=3, every=1, width=4), tiny_task())
    assert same_weights(weights_now(), before)


def test_gradients_are_of_the_loss_that_clients_train_by() -> None:
    federation = {"split": Split.DIRICHLET, "clients": 4, "per_round": 4, "alpha": 1.0}
    plain, calibrated = (moving(federation=federation, expected_labels=kind) for kind in ("local", "equal"))
    client, name = cohort_of(plain.bench)[0], MATRICES[-1]
    assert not np.allclose(plain.gradients(client)[name], calibrated.gradients(client)[name])
    plain.bench = calibrated.bench
    assert np.array_equal(plain.gradients(client)[name], calibrated.gradients(client)[name])


def energy_held(basis: Basis, gradient: NDArray[np.float64]) -> float:
    """Return what heads can follow of a gradient: the squares of each b^T G a^T."""
    return float(sum(np.square(b.T @ gradient @ a.T).sum() for b, a in zip(basis.b, basis.a, strict=True)))


def test_aligned_bases_hold_more_of_the_gradient_than_drawn_ones() -> None:
    """Of each matrix's gradient over the cohort's first batches, by the definition and not by a sketch."""
    method = moving(move="aligned", every=1, width=4, probe_batches=2)
    cohort = cohort_of(method.bench)
    drawn = method.bases
    gradients = {name: np.zeros((16, 16)) for name in MATRICES}
    for client in cohort:
        for name, gradient in method.gradients(client).items():
            gradients[name] += gradient
    method._move_bases(1, cohort)
    for matrix in method.plan.matrices:
        gradient = gradients[matrix.name]
        assert energy_held(method.bases(matrix), gradient) > energy_held(drawn(matrix), gradient)


def test_held_out_directions_are_the_leading_ones_of_the_gradient_over_all_that_headquarters_holds() -> None:
    method = moving(move="held_out", directions=2)
    # This leaves the run's first classifier in the model.
    found = method._held_out_directions()
    weights = {
        name: torch.nn.Parameter(method.task.model.get_parameter(f"{name}.weight").detach()) for name in MATRICES
    }
    validation = tiny_task().validation
    size = method.plan.training.batch_size
    total = torch.zeros(())
    for start in range(0, len(validation), size):
        batch = validation.gather(range(start, min(start + size, len(validation))))
        logits = torch.func.functional_call(
            _Logits(method.task), {f"inner.{name}.weight": weight for name, weight in weights.items()}, (batch,)
        )
        total = total + method.task.losses(logits, batch).mean()
    gradients = torch.autograd.grad(total, list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        left, right = found[name]
        values = torch.linalg.svdvals(gradient.double())
        held = np.square(left.T @ gradient.double().numpy() @ right.T).sum()
        assert held == pytest.approx(float(values[:2].square().sum()), rel=1e-4)
    assert method.ledger.uploaded == 0


def test_heads_that_are_dropped_leave_the_weights_alone() -> None:
    method = moving(move="held_out", first=2, folds=False)
    method.play(1, cohort_of(method.bench, 1))
    assert any(method.state[block].any() for block in method.plan.head_ids())
    classifier = {block: method.state[block].copy() for block in method.plan.dense_ids()}
    method._move_bases(2, cohort_of(method.bench, 2))
    assert not any(method.state[block].any() for block in method.plan.head_ids())
    assert all(np.array_equal(method.state[block], array) for block, array in classifier.items())
    before = weights_now()
    with method._shifted():
        assert same_weights(weights_now(), before)


class _Logits(torch.nn.Module):
    """A task's logits as a module whose parameters are its model's."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.inner = task.model
        self._task = [task]

    def forward(self, batch: Any) -> torch.Tensor:
        return cast(torch.Tensor, self._task[0].logits(batch))
