"""What autograd keeps from a forward pass for its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kept_for_backward(run: Callable[[], Tensor]) -> list[Tensor]:
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return kept
