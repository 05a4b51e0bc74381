"""The arithmetic of one layer's trained heads, on whichever of two paths is cheaper for the shapes at hand.

Per token: y = W x + B P (A x), through the ranks of all heads. Merged: W_eff = W + B P A is made for all tokens at
once. Both keep x for the backward pass, and the merged path W_eff as well where making it again would take long.
Nothing of the size (tokens, h r) outlives the step's own kernel. P stands for the s_i H_i of all trained heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

_MERGING_AGAIN: Final = 0.25
"""Largest share of one product W x that the backward pass spends on making W_eff again, so as not to keep it."""


class Path(StrEnum):
    """How a layer computes its trained heads."""

    PER_TOKEN = "per_token"  # noqa: S105 - the name of a path
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cost of a step depends on."""

    tokens: int
    out_features: int
    in_features: int
    heads: int
    rank: int

    @property
    def width(self) -> int:
        """Return h r: the ranks of all trained heads together."""
        return self.heads * self.rank

    @property
    def merging(self) -> int:
        """Return the multiplications that make W_eff from W."""
        return self.width * self.in_features * (self.rank + self.out_features)

    @property
    def merges_again(self) -> bool:
        """Tell whether the backward pass makes W_eff again; a layer's W_eff is often as large as all that it keeps."""
        return self.merging <= _MERGING_AGAIN * self.tokens * self.in_features * self.out_features

    @property
    def passing(self) -> int:
        """Return the multiplications that take all tokens down to the ranks and up again."""
        return self.tokens * self.width * (self.in_features + self.out_features + self.rank)

    @property
    def core_gradient(self) -> int:
        """Return the least multiplications that give the gradient of the cores."""
        return min(self.passing, self.outer)

    @property
    def outer(self) -> int:
        """Return the multiplications of the core gradient by way of the gradient of W_eff."""
        return self.tokens * self.in_features * self.out_features + self.merging


def choose_path(shape: Shape) -> Path:
    """Return the path with fewer multiplications in a whole step.

    Beside W x and its gradient, merged: one merge. Per token: one pass forward and one for the gradient of x. The
    gradient of the cores costs both the same.
    """
    return Path.MERGED if shape.merging < 2 * shape.passing else Path.PER_TOKEN


def adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    columns: Tensor,
    rows: Tensor,
    products: Tensor,
    path: Path | None = None,
) -> Tensor:
    """Return (W + sum_i B_i P_i A_i) x + bias for each row of `x` (..., in), shape (..., out).

    `columns` (out, h r) and `rows` (h r, in) are the stacked bases, `products` (h, r, r) the P_i; all of one dtype.
    `path` overrides the choice. Gradients flow to `x`, `products` and the bias; weight and bases are constants.
    """
    if path is None:
        path = choose_path(_shape_of(x, columns, rows, products.shape))
    function = _Merged if path is Path.MERGED else _PerToken
    result: Tensor = function.apply(x, weight, bias, columns, rows, products)  # type: ignore[no-untyped-call]
    return result


class _Merged(torch.autograd.Function):
    """One weight for all tokens."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, columns: Tensor, rows: Tensor, products: Tensor
    ) -> Tensor:
        effective = _merge(weight, columns, rows, products)
        ctx.merged = ctx.needs_input_grad[0] and not _shape_of(x, columns, rows, products.shape).merges_again
        ctx.save_for_backward(x, effective if ctx.merged else weight, columns, rows, products)
        ctx.shape = products.shape
        return linear(x, effective, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, columns, rows, products = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = gradient @ (weight if ctx.merged else _merge(weight, columns, rows, products))
        return grad_x, None, *_other_gradients(ctx, gradient, x, columns, rows)


class _PerToken(torch.autograd.Function):
    """Each token through the ranks of the heads."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, columns: Tensor, rows: Tensor, products: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, columns, rows, products)
        ctx.shape = products.shape
        return linear(x, weight, bias) + linear(turn(linear(x, rows), products), columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, columns, rows, products = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = gradient @ weight + turn(gradient @ columns, products.transpose(1, 2)) @ rows
        return grad_x, None, *_other_gradients(ctx, gradient, x, columns, rows)


def _shape_of(x: Tensor, columns: Tensor, rows: Tensor, cores: torch.Size) -> Shape:
    return Shape(x.numel() // x.shape[-1], columns.shape[0], rows.shape[1], cores[0], cores[1])


def _merge(weight: Tensor, columns: Tensor, rows: Tensor, products: Tensor) -> Tensor:
    """Return W + sum_i B_i P_i A_i, shape (out, in)."""
    return torch.addmm(weight, columns, turned_rows(rows, products))


def turned_rows(rows: Tensor, products: Tensor) -> Tensor:
    """Return the P_i A_i below each other, shape (h r, in)."""
    heads, rank, _ = products.shape
    return torch.bmm(products, rows.view(heads, rank, -1)).flatten(0, 1)


def turn(down: Tensor, products: Tensor) -> Tensor:
    """Apply P_i to the i-th rank's part of `down` (..., h r)."""
    heads, rank, _ = products.shape
    parts = down.reshape(-1, heads, rank).transpose(0, 1)  # (h, tokens, r)
    return torch.bmm(parts, products.transpose(1, 2)).transpose(0, 1).reshape(down.shape)


def _other_gradients(
    ctx: Any, gradient: Tensor, x: Tensor, columns: Tensor, rows: Tensor
) -> tuple[Tensor | None, None, None, Tensor | None]:
    flat = gradient.reshape(-1, gradient.shape[-1])  # (tokens, out)
    grad_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
    grad_products = None
    if ctx.needs_input_grad[5]:
        grad_products = core_gradient(ctx.shape, flat, x.reshape(-1, x.shape[-1]), columns, rows)
    return grad_bias, None, None, grad_products


def core_gradient(shape: torch.Size, gradient: Tensor, x: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Return dL/dP_i = B_i^T G A_i^T with G = sum over tokens of g x^T, in the cheaper of two orders."""
    heads, rank, _ = shape
    cost = _shape_of(x, columns, rows, shape)
    if cost.outer < cost.passing:
        left = columns.T @ (gradient.T @ x)  # (h r, in)
        return torch.bmm(left.view(heads, rank, -1), rows.view(heads, rank, -1).transpose(1, 2))
    up = (gradient @ columns).view(-1, heads, rank)  # (tokens, h, r)
    down = (x @ rows.T).view(-1, heads, rank)
    return torch.bmm(up.permute(1, 2, 0), down.transpose(0, 1))
