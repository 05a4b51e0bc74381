"""FLoRA: stacked factors are merged into the weights in every round, and fresh ones are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.low_rank.factors import SCALE, Adapter, mean_product
from lab.methods.low_rank.layer import shift
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate
from lab.methods.traffic import READ


class FLora(LowRankMethod):
    """Exact, and open to clients of different ranks; every client is sent the factors of the whole cohort."""

    ranks_differ: ClassVar[bool] = True
    upload_width: ClassVar[int] = READ
    stacked_numbers = 0
    """Numbers in the last round's stack."""

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:
        """Merge the mean product into the weights, and begin anew."""
        for name in self.adapter:
            mean = mean_product([update.adapter[name] for update in updates])
            self.offsets[name] = shift(self.offsets, name, SCALE * mean)
        self.stacked_numbers = sum(self.upload_numbers(update.adapter) for update in updates)
        self.adapter = self.draw_adapter(round_number)

    def download_numbers(self, adapter: Adapter) -> int:  # noqa: ARG002 - fresh factors follow from a seed
        """Return the size of the last round's stack."""
        return self.stacked_numbers
