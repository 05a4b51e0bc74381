"""HetLoRA: factors are padded to the largest rank and averaged with weights; each client gets its first rows back.

As in the comparison of the Ravan paper, ranks stay as they are: the original's self-pruning is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from lab.methods.low_rank.factors import Adapter, Factors
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate, Sides


class HetLora(LowRankMethod):
    """Zero padding, and weights by the norm of each client's product."""

    ranks_differ: ClassVar[bool] = True

    def upload_numbers(self, adapter: Adapter, sides: Sides) -> int:
        """Add the weight: a client knows its own and multiplies its factors by it, so that sums are all it takes."""
        return super().upload_numbers(adapter, sides) + 1

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average with weights ||B_c A_c||_F over their sum, taken over all matrices of a client."""
        norms = torch.tensor([self._norm(update) for update in updates], dtype=torch.float64)
        weights = norms / norms.sum() if float(norms.sum()) > 0 else torch.full_like(norms, 1 / len(updates))
        for name, whole in self.adapter.items():
            padded = [update.adapter[name].padded(whole.rank) for update in updates]
            self.adapter[name] = Factors(
                b=sum(w * f.b.double() for w, f in zip(weights, padded, strict=True)).float(),
                a=sum(w * f.a.double() for w, f in zip(weights, padded, strict=True)).float(),
            )

    @staticmethod
    def _norm(update: LowRankUpdate) -> float:
        return float(torch.stack([f.product().square().sum() for f in update.adapter.values()]).sum().sqrt())
