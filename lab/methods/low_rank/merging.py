"""Methods that put something into the frozen weights in every round, which every client has to follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lab.methods.low_rank.factors import Adapter
from lab.methods.low_rank.layer import shift
from lab.methods.low_rank.method import LowRankMethod
from lab.methods.method import Bench, Client


class MergingMethod(LowRankMethod):
    """Whoever was away is sent all that it missed: those rounds' factors, or a dense matrix where that is less."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._merged: list[Mapping[str, int]] = []
        """Rank of what each round put into each matrix."""
        self._followed: dict[int, int] = {}
        """How many rounds' changes a client has."""

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Remember that this cohort has been sent all changes of the rounds before."""
        merged = len(self._merged)
        super().play(round_number, cohort)
        self._followed.update((client.index, merged) for client in cohort)

    def merge(self, changes: Mapping[str, tuple[Tensor, int]]) -> None:
        """Put a round's (change, its rank) into each matrix."""
        for name, (change, _) in changes.items():
            self.offsets[name] = shift(self.offsets, name, change)
        self._merged.append({name: rank for name, (_, rank) in changes.items()})

    def download_numbers(self, adapter: Adapter, client: Client) -> int:
        """Add the changes that the client does not have yet."""
        missed = self._merged[self._followed.get(client.index, 0) :]
        return super().download_numbers(adapter, client) + sum(
            min(sum(ranks[name] for ranks in missed) * (out + inputs), out * inputs)
            for name, (out, inputs) in self.sizes.items()
        )
