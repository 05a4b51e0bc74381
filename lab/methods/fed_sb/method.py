"""Fed-SB: a round of full updates of the adapted matrices gives bases and first cores by SVD; then cores alone train.

This is Ravan with one head whose bases come from data, so all but the preparation is Ravan's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lab.methods.dense import first_dense, load_dense, mean_of
from lab.methods.drafting import draft_plan
from lab.methods.method import Bench, Client
from lab.methods.ravan.method import Ravan
from ravan.adapters.basis import Basis
from ravan.adapters.model import TrainedParameters
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Matrix


class FedSb(Ravan):
    """The first round is the preparation: its bytes and steps count like those of any round.

    Whole matrices bear lower rates than cores do, so the preparation has its own with `preparation_rate`.
    """

    options: ClassVar[frozenset[str]] = (Ravan.options - {"heads", "share", "basis", "train_scales", "denominator"}) | {
        "preparation_rate"
    }

    def draft(self) -> JobPlan:
        """Return a plan with one head of the whole budget, with its scale at 1."""
        return draft_plan(self.bench, heads=1, train_scales=False)

    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Prepare in the first round, then play as Ravan does."""
        if round_number == 1:
            self._prepare(cohort)
        else:
            super().play(round_number, cohort)

    def _prepare(self, cohort: Sequence[Client]) -> None:
        updates = [self._train_matrices(client) for client in cohort]
        self._kept_bases: dict[int, Basis] = {}
        state = dict(self.state)
        for matrix in self.plan.matrices:
            rank = self.plan.adapter.for_matrix(matrix).rank
            mean = mean_of([update[matrix.name] for update in updates]).double()
            u, s, vt = torch.linalg.svd(mean, full_matrices=False)
            self._kept_bases[matrix.ordinal] = Basis(b=_array(u[None, :, :rank]), a=_array(vt[None, :rank]))
            state[BlockId(BlockKind.HEAD, 0, matrix.ordinal, 0)] = _array(torch.diag(s[:rank]))
        for block, parameter in zip(self.plan.dense_ids(), self.plan.dense, strict=True):
            state[block] = _array(mean_of([update[parameter.name] for update in updates]))
        self.state = state
        self.bases = self._prepared
        # Bases come from data, so every client of the fleet is sent them once.
        sides = sum(basis.b.size + basis.a.size for basis in self._kept_bases.values())
        self.ledger.download(sides * self.bench.schedule.clients)

    def _prepared(self, matrix: Matrix) -> Basis:
        return self._kept_bases[matrix.ordinal]

    @property
    def _preparing(self) -> Bench:
        rate = float(self.bench.cell.option("preparation_rate", self.bench.settings.learning_rate))
        return replace(self.bench, settings=replace(self.bench.settings, learning_rate=rate))

    def _train_matrices(self, client: Client) -> dict[str, Tensor]:
        """Return what a round changes in the adapted weights, and the dense parameters after it."""
        model = self.task.model
        model.requires_grad_(False)
        layers = {matrix.name: _linear(model, matrix.name) for matrix in self.plan.matrices}
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        dense = first_dense(self.bench)
        try:
            for layer in layers.values():
                layer.weight.requires_grad_(True)
            weights = tuple(model.get_parameter(f"{name}.weight") for name in layers)
            parameters = TrainedParameters(heads=weights, dense=tuple(load_dense(model, dense)))
            self._preparing.train_locally(self.task, parameters, client, 1)
            update = {name: layer.weight.detach() - before[name] for name, layer in layers.items()}
            update |= {name: model.get_parameter(name).detach().clone() for name in dense}
        finally:
            for name, layer in layers.items():
                layer.weight.requires_grad_(False).copy_(before[name])
            model.zero_grad(set_to_none=True)
        numbers = sum(value.numel() for value in update.values())
        self.ledger.upload(numbers)
        self.ledger.download(sum(value.numel() for value in dense.values()))
        return update


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{name} is no linear layer")
    return layer


def _array(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
