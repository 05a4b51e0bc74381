"""FedEx-LoRA: FedIT, plus the residual mean(B A) - mean(B) mean(A) in the frozen weights, so that the sum is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.low_rank.factors import SCALE, Adapter, mean_factors, mean_product
from lab.methods.low_rank.layer import shift
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate
from lab.methods.traffic import READ


class FedExLora(LowRankMethod):
    """FedIT made exact.

    The server needs each client's product, so uploads are read as they are. The residual travels down as the cheaper of
    a dense matrix and stacked factors, whose rank is that of the cohort's products together.
    """

    upload_width: ClassVar[int] = READ
    residual_rank = 0
    """Rank of the stacked factors of the last round; 0 before the first."""

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average B and A, and put the rest of the mean product into the weights."""
        for name in self.adapter:
            mine = [update.adapter[name] for update in updates]
            mean = mean_factors(mine)
            residual = SCALE * (mean_product(mine) - mean.product())
            self.offsets[name] = shift(self.offsets, name, residual)
            self.adapter[name] = mean
        self.residual_rank = len(updates) + 1

    def download_numbers(self, adapter: Adapter) -> int:
        """Add the last round's residual."""
        residual = 0
        for name, factors in adapter.items():
            out, inputs = self.sizes[name]
            stacked = self.residual_rank * factors.rank * (out + inputs)
            residual += min(stacked, out * inputs) if self.residual_rank else 0
        return super().download_numbers(adapter) + residual
