"""Ravan's formula on plain tensors: dW = sum_i B_i P_i A_i with P_i = s_i H_i (paper, section 3).

`b` is (h, out, r), `a` is (h, r, in), `products` is (h, r, r) throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stack_columns(b: Tensor) -> Tensor:
    """Return [B_1 ... B_h], shape (out, h r)."""
    return b.transpose(0, 1).flatten(1)


def stack_rows(a: Tensor) -> Tensor:
    """Return the A_i below each other, shape (h r, in)."""
    return a.flatten(0, 1)


def delta_weight(b: Tensor, a: Tensor, products: Tensor) -> Tensor:
    """Return sum_i B_i P_i A_i, shape (out, in)."""
    return stack_columns(b) @ stack_rows(torch.bmm(products, a))


def merge(weight: Tensor, b: Tensor, a: Tensor, products: Tensor) -> Tensor:
    """Return a new W + sum_i B_i P_i A_i; `weight` is untouched."""
    return weight + delta_weight(b, a, products)
