"""FlexLoRA: the server averages the products and hands each client the leading part of their SVD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.low_rank.factors import factorise, mean_product
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate
from lab.methods.traffic import READ


class FlexLora(LowRankMethod):
    """Exact but for what the SVD cuts off."""

    ranks_differ: ClassVar[bool] = True
    upload_width: ClassVar[int] = READ

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Factorise the mean product at the largest rank; clients take its first columns."""
        for name, whole in self.adapter.items():
            mean = mean_product([update.adapter[name] for update in updates])
            self.adapter[name] = factorise(mean, whole.rank)
