"""FedSVD: clients train B; the server factorises B A anew, so that A is orthonormal and follows what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.dense import mean_of
from lab.methods.low_rank.factors import Adapter, Factors, factorise, straighten
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate


class FedSvd(LowRankMethod):
    """FFA-LoRA with an A that moves; only the sum of B is needed, and A travels down."""

    trains_a: ClassVar[bool] = False

    def draw_adapter(self, generation: int) -> Adapter:
        """Draw A with orthonormal rows, as later ones are."""
        return {name: straighten(factors) for name, factors in super().draw_adapter(generation).items()}

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average B, then factorise the mean product, which loses nothing: its rank is at most that of A."""
        for name, factors in self.adapter.items():
            mean = Factors(b=mean_of([update.adapter[name].b for update in updates]), a=factors.a)
            self.adapter[name] = factorise(mean.product(), factors.rank)
