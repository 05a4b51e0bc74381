"""A loss that holds a client near where its round began, against drift on unequal data.

Li et al. 2020 (FedProx, arXiv 1812.06127, equation 2).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel
from ravan.tasks.wrapped_task import WrappedTask


class ProximalTask(WrappedTask):
    """A task for one client's round: mu / 2 times the squared way that trained parameters have come is added."""

    def __init__(self, inner: TaskModel[Any], mu: float) -> None:
        super().__init__(inner)
        self._mu = mu
        self._start: list[tuple[nn.Parameter, Tensor]] = []

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return each example's loss and what holds back; the first call, before any step, says where the start is."""
        if not self._start:
            trained = (parameter for parameter in self.model.parameters() if parameter.requires_grad)
            self._start = [(parameter, parameter.detach().clone()) for parameter in trained]
        losses = super().losses(logits, batch)
        return losses + self._mu / 2 * sum(((now - start) ** 2).sum() for now, start in self._start)
