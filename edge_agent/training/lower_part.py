"""The frozen layers below the lowest trained matrix: what they give for an example is computed once a round.

They do not change while a round trains, so a second pass over the data can take their outputs from memory. That is
exact only where an output does not depend on the batch around its example; see docs/decisions/0028.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, TrainingSettings
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel


def layers_below(model: nn.Module, plan: JobPlan, trained: frozenset[BlockId]) -> tuple[nn.Module, ...]:
    """Return the layers under the one with the lowest trained head, in the outermost list of modules that holds it.

    Empty where no head trains, it is the lowest layer's, or the model has no such list.
    """
    layers, below = _split_layers(model, plan, trained)
    return layers[:below]


def is_worth_keeping(
    model: nn.Module, plan: JobPlan, trained: frozenset[BlockId], lengths: NDArray[np.int64], room_bytes: int
) -> bool:
    """Tell whether a round comes back to its examples, the outputs for all are expected to fit, and they save time.

    `lengths` are the tokens of each of the site's examples.
    """
    width = max((matrix.in_features for matrix in plan.matrices), default=0)
    layers, below = _split_layers(model, plan, trained)
    return (
        below > 0
        and plan.training.steps * plan.training.batch_size > len(lengths)
        and 4 * len(lengths) * int(lengths.max()) * width <= room_bytes
        and _saves_time(plan.training, len(layers), below, lengths)
    )


def _split_layers(model: nn.Module, plan: JobPlan, trained: frozenset[BlockId]) -> tuple[tuple[nn.Module, ...], int]:
    """Return the layers, and how many of them are under the one with the lowest trained head."""
    ordinals = {block.matrix for block in trained if block.kind is BlockKind.HEAD}
    lowest = next((matrix.name for matrix in plan.matrices if matrix.ordinal in ordinals), "")
    parts = lowest.split(".")
    for depth in range(1, len(parts)):
        module = model.get_submodule(".".join(parts[:depth]))
        if isinstance(module, nn.ModuleList):
            return tuple(module), int(parts[depth])
    return (), 0


def _saves_time(training: TrainingSettings, layers: int, below: int, lengths: NDArray[np.int64]) -> bool:
    """Tell whether what the lower layers save a step is more than what padding to the longest text adds.

    In forward passes of a layer and token: a layer that trains, or that gradients pass, takes about three, a frozen
    one below takes one, in the first pass over the data alone when it is kept, and the trial takes two of all layers.
    """
    passes = training.steps * training.batch_size / len(lengths)
    trained = 3 * (layers - below)
    keeping = int(lengths.max()) * (trained + below / passes + 2 * layers / training.steps)
    return keeping < _usual_longest(lengths, training.batch_size) * (trained + below)


def _usual_longest(lengths: NDArray[np.int64], batch_size: int) -> float:
    """Return the expected tokens of the longest text in a batch of random ones."""
    # P(no text of the batch is beyond the i-th shortest) = (i / n)^batch.
    below = (np.arange(len(lengths) + 1) / len(lengths)) ** batch_size
    return float(np.sort(lengths) @ np.diff(below))


class LowerPart:
    """Keep the lower layers' outputs by example; use them where a batch of the same shape would give the same bits."""

    def __init__(self, task: TaskModel[Any], layers: Sequence[nn.Module], examples: int, room_bytes: int) -> None:
        """Take the model as injected, its `layers_below`, and the room for outputs."""
        self._task = task
        self._layers = layers
        self._room = room_bytes
        self._usable = bool(layers)
        self._kept: Tensor | None = None  # (examples, tokens, hidden)
        self._shape = torch.Size()
        """Of one example as the model takes it, in the batches that are kept."""
        self._known = torch.full((examples,), -1, dtype=torch.int8)
        """-1 for nothing, else whether the batch was without padding: a model may leave the mask out of such a one."""

    @property
    def kept(self) -> int:
        """Return for how many examples there are outputs."""
        return int((self._known >= 0).sum()) if self._usable else 0

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits, bit for bit those without this cache."""
        if not self._usable:
            return self._task.logits(batch)
        unpadded = int(not batch.is_padded)
        if self._kept is not None and self._matches(batch) and bool((self._known[batch.rows] == unpadded).all()):
            with self._answering(self._kept[batch.rows]):
                return self._task.logits(batch)
        logits, outputs = self._observed(batch)
        if outputs is None or not self._have_room(batch, outputs, logits):
            self._usable, self._kept = False, None
        elif self._kept is not None and self._matches(batch):
            self._kept[batch.rows] = outputs
            self._known[batch.rows] = unpadded
        return logits

    def _matches(self, batch: Batch) -> bool:
        return self._shape == batch.shape

    def _observed(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the logits and what the lower layers gave, None where that is nothing to keep."""
        seen: list[object] = []
        handle = self._layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            logits = self._task.logits(batch)
        finally:
            handle.remove()
        if len(seen) != 1 or not isinstance(seen[0], Tensor):
            return logits, None
        outputs = seen[0]
        # A gradient means that something below is trained after all.
        as_expected = len(outputs) == len(batch) and outputs.ndim > 1 and not outputs.requires_grad
        return logits, outputs if as_expected else None

    def _have_room(self, batch: Batch, outputs: Tensor, logits: Tensor) -> bool:
        """Make room at the first batch, where it fits and trials show that the cache gives the same bits."""
        if self._kept is not None:
            return True
        shape = (len(self._known), *outputs.shape[1:])
        if torch.Size(shape).numel() * outputs.element_size() > self._room or not self._same_bits(
            batch, outputs, logits
        ):
            return False
        self._kept, self._shape = torch.empty(shape, dtype=outputs.dtype), batch.shape
        return True

    @torch.no_grad()
    def _same_bits(self, batch: Batch, outputs: Tensor, logits: Tensor) -> bool:
        with self._answering(outputs):
            answered = self._task.logits(batch)
        _, again = self._observed(batch.flip())
        return torch.equal(answered, logits) and again is not None and torch.equal(again.flip(0), outputs)

    @contextmanager
    def _answering(self, outputs: Tensor) -> Iterator[None]:
        """Have each lower layer give these outputs instead of computing; other code still sees the layer itself."""
        for layer in self._layers:
            layer.forward = lambda *_, **__: outputs
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward
