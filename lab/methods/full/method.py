"""FedAvg over the whole model: the ceiling that adapters are measured against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lab.methods.dense import first_dense, mean_dense, mean_of
from lab.methods.method import Bench, Client, Method
from ravan.adapters.model import TrainedParameters
from ravan.tasks.task_model import TaskModel


class FullFineTuning(Method):
    """Everything is trained; capacities are ignored, as a ceiling may."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._new = first_dense(bench)
        self._changed: dict[str, Tensor] = dict(self._new)
        """Parameters that are not the base model's any more."""
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=self.averaged)

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Average what the clients have made of the whole model."""
        updates = [self._train_one(client, round_number) for client in cohort]
        self._changed = {name: mean_of([update[name] for update in updates]) for name in updates[0]}
        self._recent.append(self._changed)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Copy all parameters into the model, or their means over the last states."""
        with self._holding(mean_dense(self._recent or [self._changed])):
            yield

    @contextmanager
    def _holding(self, changed: Mapping[str, Tensor]) -> Iterator[None]:
        """Copy parameters into the model, and the base model's back at the end."""
        parameters = dict(self._model.named_parameters())
        originals = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        try:
            for name, value in changed.items():
                parameters[name].detach().copy_(value)
            yield
        finally:
            for name, value in originals.items():
                parameters[name].detach().copy_(value)

    @property
    def task(self) -> TaskModel[Any]:
        """The model without anything that is kept of its lower layers."""
        return self.bench.lab.trainable

    @property
    def _model(self) -> nn.Module:
        return self.task.model

    def _train_one(self, client: Client, round_number: int) -> dict[str, Tensor]:
        with self._holding(self._changed):
            self._model.requires_grad_(True)
            parameters = dict(self._model.named_parameters())
            body = tuple(parameter for name, parameter in parameters.items() if name not in self._new)
            dense = tuple(parameters[name] for name in self._new)
            self.bench.train_locally(self.task, TrainedParameters(heads=body, dense=dense), client, round_number)
            self._model.zero_grad(set_to_none=True)
            trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        numbers = sum(value.numel() for value in trained.values())
        self.ledger.upload(numbers)
        self.ledger.download(numbers)
        return trained
