"""Slow heads written from the paper's formula in float64, to hold whole models against."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ravan.adapters.basis import Basis, draw_basis
from ravan.adapters.state import FloatArray, ModelState
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Matrix


class SlowHeads(nn.Module):
    """y = W x + bias + sum over heads of s_i B_i (H_i (A_i x)), one head after the other, by autograd."""

    def __init__(self, plan: JobPlan, matrix: Matrix, state: ModelState, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        basis = basis_of(plan, matrix)
        self.b = torch.from_numpy(basis.b).double()
        self.a = torch.from_numpy(basis.a).double()
        cores = cores_of(state, matrix)
        self.cores = nn.ParameterList(torch.from_numpy(cores[i]).double() for i in range(len(cores)))
        self.scales = nn.ParameterList(torch.ones(()).double() for _ in cores)

    @property
    def weight(self) -> Tensor:
        """Model code asks linear layers for their dtype."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        for b, a, core, scale in zip(self.b, self.a, self.cores, self.scales, strict=True):
            y = y + scale * (((x @ a.T) @ core.T) @ b.T)
        return y


def slow_model(model: nn.Module, plan: JobPlan, state: ModelState) -> nn.Module:
    """A float64 copy of a plain model with slow heads in it and the state's dense blocks."""
    slow = copy.deepcopy(model).double().requires_grad_(False)
    for matrix in plan.matrices:
        base = slow.get_submodule(matrix.name)
        assert isinstance(base, nn.Linear)
        slow.set_submodule(matrix.name, SlowHeads(plan, matrix, state, base))
    for block, dense in zip(plan.dense_ids(), plan.dense, strict=True):
        parameter = slow.get_parameter(dense.name)
        parameter.data = torch.from_numpy(state[block]).double()
        parameter.requires_grad_()
    return slow


def update_by_hand(plan: JobPlan, matrix: Matrix, products: Mapping[int, NDArray[Any]]) -> NDArray[np.float64]:
    """sum_i B_i P_i A_i over the given heads, in float64."""
    basis = basis_of(plan, matrix)
    total = np.zeros((matrix.out_features, matrix.in_features))
    for head, product in products.items():
        total += basis.b[head].astype(np.float64) @ product.astype(np.float64) @ basis.a[head].astype(np.float64)
    return total


def basis_of(plan: JobPlan, matrix: Matrix) -> Basis:
    own = replace(plan.adapter, rank=matrix.rank or plan.adapter.rank)
    return draw_basis(own, matrix.ordinal, matrix.out_features, matrix.in_features)


def cores_of(state: ModelState, matrix: Matrix) -> dict[int, FloatArray]:
    return {b.index: array for b, array in state.items() if b.kind is BlockKind.HEAD and b.matrix == matrix.ordinal}


def some_heads(plan: JobPlan, seed: int) -> frozenset[BlockId]:
    generator = np.random.default_rng(seed)
    return frozenset(b for b in plan.head_ids() if generator.random() < 0.5) | frozenset(plan.dense_ids())
