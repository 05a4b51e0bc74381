"""Mini-batches of any task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

NOT_LEARNT: Final = -100
"""Label of a token that is no answer; torch's own default for what a loss leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One mini-batch."""

    inputs: Mapping[str, Tensor]
    """The model's keyword arguments; examples along the first dimension."""
    labels: Tensor
    """int64: (batch,) class indices; (batch, tokens) next tokens with `NOT_LEARNT` outside the answers."""
    rows: Tensor
    """int64 (batch,): which examples of the site's data these are."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """Return the shape of one example as the model takes it."""
        return next(iter(self.inputs.values())).shape[1:]

    @property
    def is_padded(self) -> bool:
        """Tell whether some example is shorter than the batch."""
        mask = self.inputs.get("attention_mask")
        return mask is not None and not bool(mask.all())

    def flip(self) -> Batch:
        """Return the examples in reverse order."""
        return Batch(
            inputs={name: value.flip(0) for name, value in self.inputs.items()},
            labels=self.labels.flip(0),
            rows=self.rows.flip(0),
        )
