"""FLoRA: stacked factors are merged into the weights in every round, and fresh ones are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.low_rank.factors import SCALE, Adapter, mean_product
from lab.methods.low_rank.merging import MergingMethod
from lab.methods.low_rank.method import LowRankUpdate
from lab.methods.method import Client
from lab.methods.traffic import READ


class FLora(MergingMethod):
    """Exact, and open to clients of different ranks; every client is sent the factors of the whole cohort."""

    ranks_differ: ClassVar[bool] = True
    upload_width: ClassVar[int] = READ

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:
        """Merge the mean product into the weights, and begin anew."""
        stacks = {name: [update.adapter[name] for update in updates] for name in self.adapter}
        self.merge({name: (SCALE * mean_product(mine), sum(f.rank for f in mine)) for name, mine in stacks.items()})
        self.adapter = self.draw_adapter(round_number)

    def download_numbers(self, adapter: Adapter, client: Client) -> int:  # noqa: ARG002 - they follow from a seed
        """Return the size of the stacks that the client does not have yet."""
        return super().download_numbers({}, client)
