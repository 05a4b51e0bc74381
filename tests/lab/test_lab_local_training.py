"""Whole rounds of each rival against a slow loop that knows nothing of the laboratory."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

import pytest
import torch
from tiny_lab import MATRICES, cohort_of, method_of, tiny_task
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from edge_agent.data.batches import deal_batches
from lab.methods.full.method import FullFineTuning
from lab.methods.low_rank.method import LowRankMethod
from lab.methods.method import Bench, Client

SCALE = 2.0
DENSE = ("classifier.weight", "classifier.bias")


class Added(torch.nn.Module):
    """W + scale x B A, as torch's own parametrisations do it."""

    def __init__(self, b: Tensor, a: Tensor) -> None:
        super().__init__()
        self.b, self.a = torch.nn.Parameter(b.clone()), torch.nn.Parameter(a.clone())

    def forward(self, weight: Tensor) -> Tensor:
        return weight + SCALE * self.b @ self.a


def descend(groups: list[dict[str, Any]], bench: Bench, client: Client, mu: float = 0.0) -> None:
    """Do AdamW's steps on the client's batches; the gradient of mu / 2 x |p - start|^2 is added by hand."""
    task, optimiser = tiny_task().task, torch.optim.AdamW(groups, weight_decay=0.0)
    start = [(p, p.detach().clone()) for group in groups for p in group["params"]]
    for batch in islice(deal_batches(client.shard, 4, client.batch_seed), bench.settings.steps):
        loss = cross_entropy(task.model(**batch.inputs).logits, batch.labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for p, at in start:
            assert p.grad is not None
            p.grad += mu * (p.detach() - at)
        optimiser.step()


def set_dense(values: Mapping[str, Tensor]) -> list[torch.nn.Parameter]:
    parameters = [tiny_task().task.model.get_parameter(name) for name in DENSE]
    for parameter, name in zip(parameters, DENSE, strict=True):
        parameter.data.copy_(values[name])
        parameter.requires_grad_(True)
    return parameters


def low_rank_by_hand(method: LowRankMethod, client: Client, *, a_too: bool, mu: float = 0.0) -> dict[str, Tensor]:
    """Return what a client makes of B, A and the classifier."""
    model = tiny_task().task.model.requires_grad_(False)
    added = {name: Added(factors.b, factors.a) for name, factors in method.adapter.items()}
    for name, module in added.items():
        parametrize.register_parametrization(model.get_submodule(name), "weight", module)
    try:
        dense = set_dense(method.dense)
        heads = [p for module in added.values() for p in ((module.b, module.a) if a_too else (module.b,))]
        groups = [{"params": heads, "lr": 0.05}, {"params": dense, "lr": 0.02}]
        descend(groups, method.bench, client, mu)
        result = {f"{name}.b": module.b.detach() for name, module in added.items()}
        result |= {f"{name}.a": module.a.detach() for name, module in added.items()}
        return result | {name: p.detach().clone() for name, p in zip(DENSE, dense, strict=True)}
    finally:
        for name in added:
            parametrize.remove_parametrizations(model.get_submodule(name), "weight", leave_parametrized=False)


def mean(updates: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.stack([update[name] for update in updates]).mean(0)


@pytest.mark.parametrize(
    ("name", "a_too", "mu"), [("fedit", True, 0.0), ("ffa_lora", False, 0.0), ("fedit", True, 0.5)]
)
def test_two_rounds_are_those_of_a_slow_loop(name: str, a_too: bool, mu: float) -> None:
    method = cast(LowRankMethod, method_of(name, steps=3, proximal=mu))
    for number in (1, 2):
        cohort = cohort_of(method.bench, number)
        expected = [low_rank_by_hand(method, client, a_too=a_too, mu=mu) for client in cohort]
        method.play(number, cohort)
        for matrix in MATRICES:
            torch.testing.assert_close(method.adapter[matrix].b, mean(expected, f"{matrix}.b"), atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(method.adapter[matrix].a, mean(expected, f"{matrix}.a"), atol=2e-5, rtol=1e-4)
        for dense in DENSE:
            torch.testing.assert_close(method.dense[dense], mean(expected, dense), atol=2e-5, rtol=1e-4)
        assert float(method.adapter[MATRICES[0]].b.abs().max()) > 0.01


def test_full_fine_tuning_is_the_mean_of_all_parameters() -> None:
    method = cast(FullFineTuning, method_of("full", learning_rate=0.003))
    model = tiny_task().task.model
    originals = {name: p.detach().clone() for name, p in model.named_parameters()}
    cohort, expected = cohort_of(method.bench), []
    with method.installed():
        first = {name: p.detach().clone() for name, p in model.named_parameters()}
    for client in cohort:
        model.requires_grad_(True)
        for name, parameter in model.named_parameters():
            parameter.data.copy_(first[name])
        body = [p for name, p in model.named_parameters() if name not in DENSE]
        dense = [model.get_parameter(name) for name in DENSE]
        descend([{"params": body, "lr": 0.003}, {"params": dense, "lr": 0.02}], method.bench, client)
        expected.append({name: p.detach().clone() for name, p in model.named_parameters()})
    for name, parameter in model.named_parameters():
        parameter.data.copy_(originals[name])
    method.play(1, cohort)
    moved = 0
    with method.installed():
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.data, mean(expected, name), atol=1e-6, rtol=1e-4)
            moved += not torch.equal(parameter.data, first[name])
    assert moved >= len(first) - 3
