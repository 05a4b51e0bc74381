"""Factors that take turns: in odd rounds B trains and A rests, in even rounds the other way round.

A round's products are linear in what trains, so their mean is exact from a sum alone (RoLoRA, arXiv 2502.01755).
Between rounds the server factorises the product anew: what rests is orthonormal, its leading directions first, and was
learnt in the round before. So each round finds one side of the subspace for the next, and no sketch travels. In the
words of Ravan: one-column heads, one of whose bases is the identity and the other one moves.

A client trains as many leading columns as it has capacity for; a column's mean is over those who trained it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lab.methods.low_rank.factors import SCALE, Adapter, Factors, straighten
from lab.methods.low_rank.method import LowRankMethod, LowRankUpdate, Sides
from lab.methods.method import Bench, Client


class Alternating(LowRankMethod):
    """`threshold` is the least number of clients of a column."""

    options: ClassVar[frozenset[str]] = LowRankMethod.options | {"threshold"}
    trains_a: ClassVar[bool] = False
    ranks_differ: ClassVar[bool] = True

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._threshold = int(bench.cell.option("threshold", 1))

    def sides_of(self, round_number: int) -> Sides:
        """Return B in odd rounds and A in even ones."""
        return Sides(b=round_number % 2 == 1, a=round_number % 2 == 0)

    def budget_rank(self, out_features: int, in_features: int) -> int:
        """Return the rank at which the larger factor alone is within the budget."""
        numbers = self.bench.cell.training.lora_rank * (out_features + in_features)
        return min(numbers // max(out_features, in_features), out_features, in_features)

    def draw_adapter(self, generation: int) -> Adapter:
        """Draw A with orthonormal rows, as later ones are."""
        return {name: straighten(factors) for name, factors in super().draw_adapter(generation).items()}

    def offsets_for(self, adapter: Adapter) -> Mapping[str, Tensor]:
        """Add the columns that a client does not train, which count all the same."""
        return {
            name: SCALE * (self.adapter[name].product() - mine.product()).float()
            for name, mine in adapter.items()
            if mine.rank < self.adapter[name].rank
        }

    def download_numbers(self, adapter: Adapter, client: Client) -> int:  # noqa: ARG002 - everybody needs all columns
        """Return the numbers of both whole factors."""
        return super().download_numbers(self.adapter, client)

    def combine(self, updates: Sequence[LowRankUpdate], round_number: int) -> None:
        """Average each column over its trainers, then make orthonormal what rests in the next round."""
        b_rests = self.sides_of(round_number + 1).a
        for name, before in self.adapter.items():
            after = [update.adapter[name] for update in updates]
            if self.sides_of(round_number).b:
                moved = Factors(b=mean_columns(before.b, [f.b for f in after], self._threshold), a=before.a)
            else:
                rows = mean_columns(before.a.T, [f.a.T for f in after], self._threshold)
                moved = Factors(b=before.b, a=rows.T)
            self.adapter[name] = rest_one_side(moved, b_rests=b_rests)


def mean_columns(before: Tensor, after: Sequence[Tensor], threshold: int) -> Tensor:
    """Return (n, r) whose k-th column is the mean over all `after` (n, <= r) that have one.

    A column that fewer than `threshold` have stays as it was.
    """
    result = before.clone()
    for k in range(before.shape[1]):
        trained = [each[:, k] for each in after if each.shape[1] > k]
        if len(trained) >= max(1, threshold):
            result[:, k] = torch.stack(trained).double().mean(0).float()
    return result


def rest_one_side(factors: Factors, *, b_rests: bool) -> Factors:
    """Return factors of the same product with orthonormal columns of B, or rows of A, largest singular values first.

    Unlike `factorise` it keeps to the spaces of both factors, also where columns of B are still zero.
    """
    left, right = torch.linalg.qr(factors.b.double()), torch.linalg.qr(factors.a.T.double())
    u, s, vt = torch.linalg.svd(left.R @ right.R.T)
    b, a = left.Q @ u, vt @ right.Q.T
    if b_rests:
        return Factors(b=b.float(), a=(s[:, None] * a).float())
    return Factors(b=(b * s).float(), a=a.float())
