"""The forms in which a model trains: our heads, PEFT's LoRA, and the heads computed as the paper's formula reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.step_models import ALL_LINEARS, LORA_RANK, QUERY_VALUE, Case, plan_for
from ravan.adapters.basis import drawn_bases
from ravan.adapters.model import inject
from ravan.adapters.state import FloatArray, initial_state
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan

Form = Callable[[nn.Module, Case], nn.Module]
"""Puts a fresh model into the form in which it is trained; what trains asks for gradients."""


def everything(plan: JobPlan) -> frozenset[BlockId]:
    """Return all heads and dense blocks."""
    return frozenset(plan.head_ids()) | frozenset(plan.dense_ids())


def top_quarter(plan: JobPlan) -> frozenset[BlockId]:
    """Return the heads of the upper quarter of the matrices, and the dense blocks."""
    first = len(plan.matrices) - len(plan.matrices) // 4
    return frozenset(plan.dense_ids()) | {head for head in plan.head_ids() if head.matrix >= first}


def later_state(plan: JobPlan) -> dict[BlockId, FloatArray]:
    """Return a state as after some rounds: no core is 0, so heads that do not train have to be folded."""
    draws = np.random.default_rng(0)
    heads = set(plan.head_ids())
    return {
        block: draws.normal(scale=0.01, size=array.shape).astype(np.float32) if block in heads else array
        for block, array in initial_state(plan).items()
    }


def ours(trained: Callable[[JobPlan], frozenset[BlockId]], targets: tuple[str, ...]) -> Form:
    """Return the form with our heads on the targets."""

    def form(model: nn.Module, case: Case) -> nn.Module:
        plan = plan_for(model, case, targets)
        inject(model, plan, later_state(plan), trained(plan))
        return model

    return form


def lora(model: nn.Module, rank: int, targets: tuple[str, ...]) -> nn.Module:
    """Return the model with PEFT's LoRA on the targets, without dropout, and a classifier that trains whole."""
    config = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=list(targets), task_type=TaskType.SEQ_CLS
    )
    wrapped: nn.Module = get_peft_model(model, config)
    return wrapped.eval()


class LoopedHeads(nn.Module):
    """One head after the other: y = W x + sum_i s_i B_i (H_i (A_i x))."""

    def __init__(self, base: nn.Linear, b: Tensor, a: Tensor) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.b, self.a = list(b), list(a)
        rank = b.shape[2]
        self.cores = nn.ParameterList(nn.Parameter(torch.zeros(rank, rank)) for _ in self.b)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in self.b)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for `x` (..., in)."""
        y: Tensor = self.base(x)
        for b, a, core, scale in zip(self.b, self.a, self.cores, self.scales, strict=True):
            y = y + scale * linear(linear(linear(x, a), core), b)
        return y


class StackedHeads(nn.Module):
    """All heads at once through their stacked ranks."""

    def __init__(self, base: nn.Linear, b: Tensor, a: Tensor) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.columns, self.rows = b.transpose(0, 1).flatten(1), a.flatten(0, 1)
        heads, _, rank = b.shape
        self.cores = nn.Parameter(torch.zeros(heads, rank, rank))
        self.scales = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for `x` (..., in)."""
        products = self.scales[:, None, None] * self.cores
        heads, rank, _ = products.shape
        down = linear(x, self.rows).reshape(-1, heads, rank).transpose(0, 1)  # (h, tokens, r)
        turned = torch.bmm(down, products.transpose(1, 2)).transpose(0, 1)
        y: Tensor = self.base(x)
        return y + linear(turned.reshape(*x.shape[:-1], heads * rank), self.columns)


def with_heads(model: nn.Module, plan: JobPlan, kind: type[LoopedHeads | StackedHeads]) -> nn.Module:
    """Return the model with all heads of the plan computed by `kind`, and a classifier that trains whole."""
    model.requires_grad_(False)
    source = drawn_bases(plan.adapter)
    for matrix in plan.matrices:
        basis, base = source(matrix), model.get_submodule(matrix.name)
        assert isinstance(base, nn.Linear)  # noqa: S101 - narrows the type
        model.set_submodule(matrix.name, kind(base, torch.from_numpy(basis.b), torch.from_numpy(basis.a)))
    for parameter in plan.dense:
        model.get_parameter(parameter.name).requires_grad_()
    return model


FORMS: Final[Mapping[str, Form]] = {
    "lora": lambda model, _: lora(model, LORA_RANK, QUERY_VALUE),
    "full": ours(everything, QUERY_VALUE),
    "quarter": ours(top_quarter, QUERY_VALUE),
    "stacked": lambda model, case: with_heads(model, plan_for(model, case, QUERY_VALUE), StackedHeads),
    "naive": lambda model, case: with_heads(model, plan_for(model, case, QUERY_VALUE), LoopedHeads),
    "lora, all linears": lambda model, _: lora(model, LORA_RANK, ALL_LINEARS),
    "full, all linears": ours(everything, ALL_LINEARS),
}
"""By name; all but the last two adapt query and value."""
