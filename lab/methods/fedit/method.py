"""FedIT: the mean of B times the mean of A, which is not the mean of the products."""

from __future__ import annotations

from collections.abc import Sequence

from lab.methods.low_rank.factors import mean_factors
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate


class FedIt(LowRankMethod):
    """FedAvg over B and A."""

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average B and A, each for itself."""
        self.adapter = {name: mean_factors([update.adapter[name] for update in updates]) for name in self.adapter}
