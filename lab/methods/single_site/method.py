"""What each plant would have without a federation: Ravan's heads trained on its own data alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lab.methods.method import Bench, Client
from lab.methods.ravan.method import Ravan
from lab.methods.traffic import Ledger
from ravan.adapters.state import ModelState
from ravan.tasks.passes import Score
from ravan.tasks.task_model import EncodedExamples


class SingleSite(Ravan):
    """As many models as clients; the score is their mean on everybody's test examples."""

    options: ClassVar[frozenset[str]] = frozenset(
        {"targets", "expected_labels", "heads", "share", "basis", "train_scales"}
    )

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.ledger = Ledger()  # directions that lead aligned bases go nowhere
        self._first = self.state
        self._own: dict[int, ModelState] = {}

    def cohort(self, round_number: int) -> list[Client]:
        """Return everybody: without a federation nobody waits for a turn."""
        return [self.bench.client(index, round_number) for index in range(self.bench.schedule.clients)]

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Let each client go on with its own model."""
        for client in cohort:
            self.state = self._own.get(client.index, self._first)
            self._own[client.index] = self.train_alone(client, round_number)

    def evaluate(self, data: EncodedExamples) -> Score:
        """Return the mean over the clients' models."""
        scores = []
        for state in self._own.values():
            self.state = state
            scores.append(super().evaluate(data))
        count = len(scores)
        return Score(
            accuracy=sum(score.accuracy for score in scores) / count,
            loss=sum(score.loss for score in scores) / count,
            examples=len(data),
        )
