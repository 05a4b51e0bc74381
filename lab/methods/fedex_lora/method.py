"""FedEx-LoRA: FedIT, plus the residual mean(B A) - mean(B) mean(A) in the frozen weights, so that the sum is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.low_rank.factors import SCALE, mean_factors, mean_product
from lab.methods.low_rank.merging import MergingMethod
from lab.methods.low_rank.method import LowRankUpdate
from lab.methods.traffic import READ


class FedExLora(MergingMethod):
    """FedIT made exact; the server needs each client's product, so uploads are read as they are.

    The residual of n clients is the mean of (B_c - mean B) (A_c - mean A), of which one follows from the others: its
    factors have n - 1 times the adapter's rank.
    """

    upload_width: ClassVar[int] = READ

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average B and A, and put the rest of the mean product into the weights."""
        residuals = {}
        for name in self.adapter:
            mine = [update.adapter[name] for update in updates]
            mean = mean_factors(mine)
            residuals[name] = SCALE * (mean_product(mine) - mean.product()), (len(mine) - 1) * mean.rank
            self.adapter[name] = mean
        self.merge(residuals)
