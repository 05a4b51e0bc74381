"""A linear layer whose weight is in whole numbers of eight bits, symmetric, with one scale per output.

Only the weight is: what goes in and comes out has its usual type.
"""

from __future__ import annotations

from typing import Final, Self

import torch
from torch import Tensor, nn

from ravan.adapters.narrow import ACTIVATIONS, NarrowWeight, narrow_linear
from ravan.errors import ErrorReason, ModelError

_STEPS: Final = 127
"""Of each sign, so that negation stays within range."""


class Int8Linear(nn.Module):
    """Compute y = W x + bias with W = scales x numbers; stands where an `nn.Linear` stood, and is never trained."""

    numbers: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = numbers.shape
        self.register_buffer("numbers", numbers)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """Quantise one layer; raise ModelError when a weight is not finite."""
        bias = None if linear.bias is None else linear.bias.detach().float().clone()
        return cls(*quantise_rows(linear.weight.detach()), bias)

    @property
    def weight(self) -> Tensor:
        """W in float32, made anew for each caller; model code asks for its type."""
        return NarrowWeight(numbers=self.numbers, scales=self.scales).widen()

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) in bfloat16 for `x` (..., in)."""
        return narrow_linear(x, NarrowWeight(numbers=self.numbers, scales=self.scales), self.bias).to(ACTIVATIONS)


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 numbers (out, in) and float32 scales (out, 1), no weight off by more than half its row's scale.

    Raise ModelError when a weight is not finite.
    """
    wide = weight.float()
    largest = wide.abs().amax(dim=1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise ModelError(
            "The base model has a weight that is not a finite number, which has no place in eight bits.",
            reason=ErrorReason.MODEL_INVALID,
            next_step="Add a base model whose weights are whole.",
        )
    scales = largest / _STEPS
    # A row of zeros, or of numbers whose steps are below what float32 can tell from 0.
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    return (wide / scales).round_().clamp_(-_STEPS, _STEPS).to(torch.int8), scales
