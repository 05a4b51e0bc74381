"""The new classifier, which every method but Ravan's own code trains alike: whole, from the same first weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.methods.drafting import draft_plan
from lab.methods.method import Bench
from ravan.adapters.state import initial_state
from ravan.tasks.task_model import TaskModel

Dense = dict[str, Tensor]
"""Each dense parameter by its name in the model."""


def first_dense(bench: Bench) -> Dense:
    """Return the first weights, which are the product's for the run's seed."""
    plan = draft_plan(bench, heads=0)
    state = initial_state(plan)
    return {
        parameter.name: torch.from_numpy(state[block])
        for block, parameter in zip(plan.dense_ids(), plan.dense, strict=True)
    }


def load_dense(model: nn.Module, dense: Dense) -> list[nn.Parameter]:
    """Copy values into the model and return its parameters, ready to be trained."""
    parameters = []
    for name, value in dense.items():
        parameter = model.get_parameter(name)
        parameter.detach().copy_(value)
        parameter.requires_grad_(True)
        parameters.append(parameter)
    return parameters


def read_dense(task: TaskModel[Any]) -> Dense:
    """Return a copy of what the model holds now."""
    return {name: task.model.get_parameter(name).detach().clone() for name, _ in task.new_parameters}


def mean_dense(updates: Sequence[Dense]) -> Dense:
    """Return the mean over clients, each counting the same; in float64, so that the order does not matter."""
    return {name: mean_of([update[name] for update in updates]) for name in updates[0]}


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of float32 tensors, added up in float64."""
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).float()


def count_numbers(dense: Dense) -> int:
    """Return how many numbers they are."""
    return sum(value.numel() for value in dense.values())
