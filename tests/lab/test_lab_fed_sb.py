"""Fed-SB's preparation: bases and first cores are the leading part of a mean full update."""

from __future__ import annotations

from itertools import islice
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_lab import HIDDEN, MATRICES, cohort_of, method_of, tiny_task, weight_in_model
from torch.nn.functional import cross_entropy

from edge_agent.data.batches import deal_batches
from lab.methods.fed_sb.method import FedSb
from lab.methods.method import Client

RANK = 8
"""One head of r x r = 64 numbers, as many as LoRA of rank 2 has for a 16 x 16 matrix."""


def full_update(method: FedSb, client: Client) -> dict[str, NDArray[np.float64]]:
    """Return what a client's steps change in the adapted matrices, and its classifier, by a plain loop."""
    model = tiny_task().task.model.requires_grad_(False)
    names = [f"{name}.weight" for name in MATRICES]
    weights = [model.get_parameter(name).requires_grad_(True) for name in names]
    before = [weight.detach().clone() for weight in weights]
    dense = [model.get_parameter(name).requires_grad_(True) for name in ("classifier.weight", "classifier.bias")]
    for block, parameter in zip(method.plan.dense_ids(), dense, strict=True):
        parameter.data.copy_(torch.from_numpy(method.state[block]))
    optimiser = torch.optim.AdamW([{"params": weights, "lr": 0.05}, {"params": dense, "lr": 0.02}], weight_decay=0.0)
    for batch in islice(deal_batches(client.shard, 4, client.batch_seed), 2):
        loss = cross_entropy(tiny_task().task.model(**batch.inputs).logits, batch.labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    update = {}
    for name, weight, old in zip(MATRICES, weights, before, strict=True):
        update[name] = (weight.detach().double() - old.double()).numpy()
        weight.data.copy_(old)
    return update | {str(i): parameter.detach().double().numpy().copy() for i, parameter in enumerate(dense)}


def test_preparation_gives_the_best_approximation_of_the_mean_full_update() -> None:
    method = cast(FedSb, method_of("fed_sb"))
    cohort = cohort_of(method.bench)
    updates = [full_update(method, client) for client in cohort]
    method.play(1, cohort)
    with method.installed():
        changed = {name: weight_in_model(name) for name in MATRICES}
    for matrix in method.plan.matrices:
        mean = np.mean([update[matrix.name] for update in updates], axis=0)
        basis = method.bases(matrix)
        core = method.state[next(b for b in method.plan.head_ids() if b.matrix == matrix.ordinal)]
        assert basis.b.shape == (1, HIDDEN, RANK)
        assert basis.a.shape == (1, RANK, HIDDEN)
        assert basis.b[0].T @ basis.b[0] == pytest.approx(np.eye(RANK), abs=1e-5)
        assert basis.a[0] @ basis.a[0].T == pytest.approx(np.eye(RANK), abs=1e-5)
        singular = np.linalg.svd(mean, compute_uv=False)
        assert core == pytest.approx(np.diag(singular[:RANK]), abs=2e-4)
        assert not (core - np.diag(np.diag(core))).any()
        update = changed[matrix.name] - weight_in_model(matrix.name)
        # Eckart and Young.
        error = float(np.linalg.norm(mean - update))
        assert error == pytest.approx(float(np.sqrt((singular[RANK:] ** 2).sum())), abs=1e-3)
        assert 0.02 < error < 0.8 * float(np.linalg.norm(mean))
    for i, block in enumerate(method.plan.dense_ids()):
        assert method.state[block] == pytest.approx(np.mean([u[str(i)] for u in updates], axis=0), abs=1e-5)


def test_after_it_bases_stay_and_cores_alone_move() -> None:
    method = cast(FedSb, method_of("fed_sb"))
    method.play(1, cohort_of(method.bench, 1))
    first = {matrix.ordinal: method.bases(matrix) for matrix in method.plan.matrices}
    cores = {block: method.state[block].copy() for block in method.plan.head_ids()}
    method.play(2, cohort_of(method.bench, 2))
    for matrix in method.plan.matrices:
        assert method.bases(matrix) is first[matrix.ordinal]
    assert all(not np.array_equal(method.state[block], core) for block, core in cores.items())
    assert not method.plan.adapter.train_scales


def test_the_preparation_may_have_a_rate_of_its_own() -> None:
    plain = cast(FedSb, method_of("fed_sb"))
    rate = plain.bench.settings.learning_rate
    other = cast(FedSb, method_of("fed_sb", learning_rate=4 * rate, preparation_rate=rate))
    for method in (plain, other):
        method.play(1, cohort_of(method.bench, 1))
    assert all(np.array_equal(value, other.state[block]) for block, value in plain.state.items())
    for method in (plain, other):
        method.play(2, cohort_of(method.bench, 2))
    assert any(not np.array_equal(plain.state[block], other.state[block]) for block in plain.plan.head_ids())
