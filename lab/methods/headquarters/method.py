"""What headquarters' own held-out examples would train without any site: as many steps as a cohort does together.

The score on validation examples, which are those that it trains on, says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from lab.methods.method import Bench, Client
from lab.methods.ravan.method import Ravan
from lab.methods.traffic import Ledger


class Headquarters(Ravan):
    """Ravan's heads in one place, by the plain loss."""

    options: ClassVar[frozenset[str]] = frozenset({"targets", "averaged", "heads", "share", "basis", "train_scales"})

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.ledger = Ledger()  # directions that lead aligned bases go nowhere

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Train in each client's turn, in the order of its batches, on the held-out examples."""
        for turn in cohort:
            here = replace(turn, shard=self.bench.lab.held_out)
            self.state = self.train_alone(here, round_number)
        self._recent.append(self.state)
