"""FedIT: the mean of B times the mean of A, which is not the mean of the products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from coordinator.evaluation.alignment import look_for_directions
from lab.methods.drafting import draft_plan
from lab.methods.low_rank.factors import DRAWN_NORM, Adapter, Factors, mean_factors
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate
from ravan.adapters.basis import drawn_bases
from ravan.manifest.plan import BasisKind


class FedIt(LowRankMethod):
    """FedAvg over B and A; with `led` A begins with what leads Ravan's aligned bases."""

    options: ClassVar[frozenset[str]] = LowRankMethod.options | {"led"}

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:  # noqa: ARG002 - equal rounds
        """Average B and A, each for itself."""
        self.adapter = {name: mean_factors([update.adapter[name] for update in updates]) for name in self.adapter}

    def draw_adapter(self, generation: int) -> Adapter:
        """Draw first factors, or take A from the directions."""
        drawn = super().draw_adapter(generation)
        return self._lead(drawn) if self.bench.cell.option("led", False) else drawn

    def _lead(self, drawn: Adapter) -> Adapter:
        """Return factors whose A has the first rows of Ravan's aligned bases, as long as drawn rows are."""
        plan = draft_plan(self.bench, heads=4, basis=BasisKind.ALIGNED)
        found = look_for_directions(self.task, plan, self.bench.lab.validation)
        bases = drawn_bases(plan.adapter, lambda matrix: found[matrix.ordinal])
        led = {}
        for matrix in plan.matrices:
            factors = drawn[matrix.name]
            rows = torch.from_numpy(np.concatenate(list(bases(matrix).a))[: factors.rank])
            led[matrix.name] = Factors(b=factors.b, a=rows * DRAWN_NORM)
        if not self.trains_a:
            self.ledger.download(sum(each.a.numel() for each in led.values()) * self.bench.schedule.clients)
        return led
