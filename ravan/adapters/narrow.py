"""The arithmetic of a layer whose weight is stored in bfloat16 or in whole numbers of eight bits.

The stored weight is widened to float32 in blocks of rows, in forward and backward pass alike, so that no wide copy of
it is ever kept. Heads are never folded into it, where they would be rounded away; they run beside it, on the same two
paths as elsewhere (`ravan.adapters.arithmetic`), the merged one block by block. Sums are made in float32 and rounded
once, by whoever calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ravan.adapters.arithmetic import Path, Shape, choose_path, core_gradient, turn, turned_rows

ACTIVATIONS: Final = torch.bfloat16
"""What layers with a narrow weight answer in, whatever they are asked in."""

_BLOCK_NUMBERS: Final = 1 << 21
"""Most numbers of a block: 8 MiB in float32, which few matrices of small models exceed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NarrowWeight:
    """A constant weight as it is stored."""

    numbers: Tensor
    """Shape (out, in), bfloat16 or int8."""
    scales: Tensor | None = None
    """Shape (out, 1), float32: what one step of a row of int8 is worth."""

    def widen(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the whole weight in a wide type, shape (out, in)."""
        whole = self.numbers.to(dtype)
        return whole if self.scales is None else whole.mul_(self.scales)

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their widened numbers, which are good until the next block overwrites them."""
        out_features, in_features = self.numbers.shape
        height = max(1, min(out_features, _BLOCK_NUMBERS // in_features))
        room = self.numbers.new_empty(height, in_features, dtype=dtype)
        for start in range(0, out_features, height):
            rows = slice(start, min(start + height, out_features))
            block = room[: rows.stop - start].copy_(self.numbers[rows])
            yield rows, block if self.scales is None else block.mul_(self.scales[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SideHeads:
    """The heads beside a narrow weight: first those that are trained, then those that only count."""

    columns: Tensor
    """Bases, shape (out, h r)."""
    rows: Tensor
    """Bases, shape (h r, in)."""
    trained: Tensor | None
    """The first k heads' s_i H_i, shape (k, r, r), or None."""
    resting: Tensor
    """The other heads' products, shape (h - k, r, r)."""


def narrow_linear(
    x: Tensor, weight: NarrowWeight, bias: Tensor | None, heads: SideHeads | None = None, path: Path | None = None
) -> Tensor:
    """Return (W + sum_i B_i P_i A_i) x + bias for each row of `x` (..., in), shape (..., out), float32 or wider.

    `path` overrides the choice by shape. Gradients flow to `x` and `heads.trained`; all else is constant.
    """
    sides = (None,) * 4 if heads is None else (heads.columns, heads.rows, heads.trained, heads.resting)
    result: Tensor = _NarrowLinear.apply(x, weight.numbers, weight.scales, bias, path, *sides)  # type: ignore[no-untyped-call]
    return result


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a frozen layer with this very weight (out, in) and bias."""
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta").requires_grad_(False)
    plain.weight = _as_parameter(weight)
    if bias is not None:
        plain.bias = _as_parameter(bias)
    return plain


def _as_parameter(numbers: Tensor) -> nn.Parameter:
    # A parameter that stands in several modules is to stay one.
    return numbers if isinstance(numbers, nn.Parameter) else nn.Parameter(numbers, requires_grad=False)


class Bfloat16Linear(nn.Linear):
    """Compute as `nn.Linear` with a bfloat16 weight does, with sums in float32 on any CPU; never trained.

    Without instructions for bfloat16 a product in it takes 5 times as long as in float32, and that of a backward pass
    177 times (decision 0030).
    """

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """Take over the parameters of a layer, whose weight is bfloat16 or about to become so."""
        taken = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        taken.weight, taken.bias = linear.weight, linear.bias
        return taken

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., out) in bfloat16 for (..., in)."""
        return narrow_linear(input, NarrowWeight(numbers=self.weight.detach()), self.bias).to(ACTIVATIONS)


class _NarrowLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        numbers: Tensor,
        scales: Tensor | None,
        bias: Tensor | None,
        path: Path | None,
        *sides: Tensor | None,
    ) -> Tensor:
        trains = ctx.needs_input_grad[_TRAINED]
        # x serves the gradient of the cores alone.
        ctx.save_for_backward(x if trains else None, numbers, scales, *sides)
        ctx.path, ctx.x_shape, ctx.x_dtype = path, x.shape, x.dtype
        wide = _flat(x)
        y = _product(wide, NarrowWeight(numbers=numbers, scales=scales), _widened_heads(wide, path, *sides))
        return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, numbers, scales, *sides = ctx.saved_tensors
        flat = _flat(gradient)
        heads = _widened_heads(flat, ctx.path, *sides)
        gradients: list[Tensor | None] = [None] * (_TRAINED + 2)
        if ctx.needs_input_grad[0]:
            grad_x = _transposed_product(flat, NarrowWeight(numbers=numbers, scales=scales), heads)
            gradients[0] = grad_x.view(ctx.x_shape).to(ctx.x_dtype)
        if heads is not None and ctx.needs_input_grad[_TRAINED]:
            gradients[_TRAINED] = heads.core_gradient(flat, _flat(x), len(sides[2]))
        return tuple(gradients)


_TRAINED: Final = 7
"""Position of the trained products among the operands."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _WideHeads:
    """All heads of a layer in the type that is computed in."""

    columns: Tensor
    rows: Tensor
    products: Tensor
    turned: Tensor | None
    """The P_i A_i below each other, (h r, in), where heads are merged into each block of the weight."""

    def core_gradient(self, gradient: Tensor, x: Tensor, trained: int) -> Tensor:
        """Return dL/dP_i of the first heads, as many as are trained."""
        shape = self.products[:trained].shape
        width = trained * shape[1]
        return core_gradient(shape, gradient, x, self.columns[:, :width], self.rows[:width])


def _widened_heads(
    x: Tensor,
    path: Path | None,
    columns: Tensor | None,
    rows: Tensor | None,
    trained: Tensor | None,
    resting: Tensor | None,
) -> _WideHeads | None:
    """Return the heads in the type of `x` (tokens, ...), by the path that is given or the cheaper one."""
    if columns is None or rows is None or resting is None:
        return None
    products = (resting if trained is None else torch.cat((trained, resting))).to(x.dtype)
    heads, rank, _ = products.shape
    shape = Shape(len(x), len(columns), rows.shape[1], heads, rank)
    wide = rows.to(x.dtype)
    merges = (path or choose_path(shape)) is Path.MERGED
    return _WideHeads(
        columns=columns.to(x.dtype),
        rows=wide,
        products=products,
        turned=turned_rows(wide, products) if merges else None,
    )


def _product(x: Tensor, weight: NarrowWeight, heads: _WideHeads | None) -> Tensor:
    """Return x (W + sum_i B_i P_i A_i)^T for `x` (tokens, in), shape (tokens, out)."""
    y = x.new_empty(len(x), len(weight.numbers))
    down = None if heads is None or heads.turned is not None else turn(x @ heads.rows.T, heads.products)
    for part, block in weight.blocks(x.dtype):
        if heads is not None and heads.turned is not None:
            torch.addmm(block, heads.columns[part], heads.turned, out=block)
        torch.mm(x, block.T, out=y[:, part])
        if heads is not None and down is not None:
            torch.addmm(y[:, part], down, heads.columns[part].T, out=y[:, part])
    return y


def _transposed_product(gradient: Tensor, weight: NarrowWeight, heads: _WideHeads | None) -> Tensor:
    """Return g (W + sum_i B_i P_i A_i) for `gradient` (tokens, out), shape (tokens, in)."""
    result = gradient.new_zeros(len(gradient), weight.numbers.shape[1])
    for part, block in weight.blocks(gradient.dtype):
        if heads is not None and heads.turned is not None:
            torch.addmm(block, heads.columns[part], heads.turned, out=block)
        torch.addmm(result, gradient[:, part], block, out=result)
    if heads is not None and heads.turned is None:
        up = turn(gradient @ heads.columns, heads.products.transpose(1, 2))  # (tokens, h r)
        torch.addmm(result, up, heads.rows, out=result)
    return result


def _flat(x: Tensor) -> Tensor:
    """Return `x` as (tokens, features) in float32, or in float64 where it is."""
    return x.reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
