"""What a step is compared with: PEFT's LoRA, and the heads computed as the paper's formula reads."""

from __future__ import annotations

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import linear

from ravan.adapters.basis import drawn_bases
from ravan.manifest.plan import JobPlan


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
