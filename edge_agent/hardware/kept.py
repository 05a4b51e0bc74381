"""What a step keeps from forward to backward, counted where the model hands it over to autograd.

A matrix is reached when gradients go down to it: from its own forward call on, layers keep what their backward pass
needs. So the count after that call, of a pass in which everything trains, is what reaching the matrix keeps, and it
grows with the batch. Two small batches give the size for any.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ravan.adapters.arithmetic import Path
from ravan.adapters.basis import Basis
from ravan.adapters.layer import RavanLinear
from ravan.adapters.model import inject, remove
from ravan.adapters.state import initial_state
from ravan.manifest.plan import JobPlan, Matrix
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Per matrix, by ordinal, for each example of a batch."""

    bytes_from: tuple[int, ...]
    """What a step keeps from the call of this matrix on, without weights."""
    rows: tuple[int, ...]
    """Vectors that go through this matrix: a text's tokens, an image's patches."""


def count_kept(task: TaskModel[Any], plan: JobPlan, batch_of: Callable[[int], Batch]) -> Kept:
    """Count on the loaded model, which is afterwards as before; memory for two examples is enough.

    `batch_of` returns a batch of so many examples, each as large as one can be.
    """
    slight, model = _slight(plan), task.model
    inject(model, slight, initial_state(slight), frozenset({*slight.head_ids(), *slight.dense_ids()}), _zeros)
    try:
        one, two = (_count_pass(task, slight, batch_of(examples)) for examples in (1, 2))
    finally:
        remove(model)
    # What does not grow with the batch is no activation.
    return Kept(bytes_from=tuple(b - a for a, b in zip(one.bytes_from, two.bytes_from, strict=True)), rows=one.rows)


def _slight(plan: JobPlan) -> JobPlan:
    """Return the plan with one head of rank 1 a matrix: what activations are kept does not depend on the heads."""
    adapter = replace(plan.adapter, heads=1, rank=1)
    return replace(plan, adapter=adapter, matrices=tuple(replace(matrix, rank=1) for matrix in plan.matrices))


def _zeros(matrix: Matrix) -> Basis:
    return Basis(
        b=np.zeros((1, matrix.out_features, 1), np.float32), a=np.zeros((1, 1, matrix.in_features), np.float32)
    )


def _count_pass(task: TaskModel[Any], plan: JobPlan, batch: Batch) -> Kept:
    ledger = _Ledger(task.model)
    before: dict[int, int] = {}
    rows: dict[int, int] = {}
    with ExitStack() as undo:
        for matrix in plan.matrices:

            def note(_: nn.Module, inputs: tuple[Tensor, ...], ordinal: int = matrix.ordinal) -> None:
                # A matrix keeps its input, whether or not another one before it does too.
                before.setdefault(ordinal, ledger.total - ledger.share_of(inputs[0]))
                rows[ordinal] = rows.get(ordinal, 0) + inputs[0].numel() // inputs[0].shape[-1]

            layer = task.model.get_submodule(matrix.name)
            if isinstance(layer, RavanLinear):
                # The other path keeps a weight, which no batch changes; see `cost_model`.
                undo.callback(setattr, layer, "path", layer.path)
                layer.path = Path.PER_TOKEN
            undo.callback(layer.register_forward_pre_hook(note).remove)
        undo.enter_context(saved_tensors_hooks(ledger.keep, _never))
        logits = task.logits(batch)
    del logits
    ordinals = [matrix.ordinal for matrix in plan.matrices]
    return Kept(
        bytes_from=tuple(ledger.total - before.get(ordinal, ledger.total) for ordinal in ordinals),
        rows=tuple(rows.get(ordinal, 0) for ordinal in ordinals),
    )


class _Ledger:
    """Add up the storages that a pass keeps, each once, but for the model's own."""

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        self._own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._kept: dict[int, Tensor] = {}

    def keep(self, tensor: Tensor) -> None:
        """Count a tensor, and hand over nothing: no backward pass follows.

        A node that got its own output back would hold itself, and with it every weight, for as long as the process.
        """
        key = _storage(tensor)
        if key not in self._own and key not in self._kept:
            # Held, since a storage that is given back may come again under the same key.
            self._kept[key] = tensor.detach()
            self.total += tensor.untyped_storage().nbytes()

    def share_of(self, tensor: Tensor) -> int:
        """Return what of the total is this tensor's."""
        return tensor.untyped_storage().nbytes() if _storage(tensor) in self._kept else 0


def _never(_: None) -> Tensor:
    raise RuntimeError("a pass that was only counted has no backward pass")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
