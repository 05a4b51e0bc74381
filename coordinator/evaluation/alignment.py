"""Where the heads of an `aligned` job open: where the held-out examples' loss pulls at the base model's weights.

A new classifier says nothing about them before it is trained, so one is trained on the same examples first, for a few
steps, and thrown away. What is kept of the examples are directions: no weight is learnt from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ravan.adapters.alignment import Probe, Sketch, add_sketches, find_directions, probe_for, take_sketch
from ravan.adapters.basis import Directions
from ravan.adapters.draws import draw_normals
from ravan.adapters.model import inject, remove, trained_parameters
from ravan.adapters.state import initial_state
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import JobPlan
from ravan.tasks.task_model import EncodedExamples, TaskModel

MOST_EXAMPLES: Final = 512
"""So many are looked at; of more, as many at random."""

_AT_ONCE: Final = 16
"""Examples whose gradient is computed together; their sum is what counts, and more of them take more memory."""

WARM_STEPS: Final = 40
"""Steps of the classifier that is thrown away, at the job's learning rate."""

_WARM_BATCH: Final = 16
"""Examples of such a step."""


def look_for_directions(task: TaskModel[Any], plan: JobPlan, data: EncodedExamples) -> dict[int, Directions]:
    """Return the directions of each of the plan's matrices by ordinal; `task` is the plain model, its weights float32.

    The model is as before afterwards, but for its classifier. Raise ModelError where the gradient is not finite.
    """
    rows = _choose_rows(plan, len(data))
    _train_classifier(task, plan, data, rows)
    probes = {matrix.name: probe_for(plan.adapter, matrix) for matrix in plan.matrices}
    sketches = _sketch_gradients(task, plan, data, rows, probes)
    return {
        matrix.ordinal: find_directions(plan.adapter, matrix, sketches[matrix.name], probes[matrix.name])
        for matrix in plan.matrices
    }


def _choose_rows(plan: JobPlan, count: int) -> list[int]:
    """Return rows in random order."""
    order = draw_normals(plan.adapter.seed, b"ravan/alignment/rows/v1", b"", (count,)).argsort(kind="stable")
    return [int(row) for row in order[:MOST_EXAMPLES]]


def _in_batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _train_classifier(task: TaskModel[Any], plan: JobPlan, data: EncodedExamples, rows: Sequence[int]) -> None:
    inject(task.model, plan, initial_state(plan), frozenset(plan.dense_ids()))
    try:
        parameters = trained_parameters(task.model, plan).dense
        if not parameters:
            return
        optimiser = torch.optim.AdamW(parameters, lr=plan.training.dense_learning_rate, weight_decay=0.0)
        for chosen in islice(cycle(_in_batches(rows, _WARM_BATCH)), WARM_STEPS):
            batch = data.gather(chosen)
            optimiser.zero_grad()
            loss = task.losses(task.logits(batch), batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    finally:
        remove(task.model)
        task.model.zero_grad(set_to_none=True)


def _sketch_gradients(
    task: TaskModel[Any], plan: JobPlan, data: EncodedExamples, rows: Sequence[int], probes: Mapping[str, Probe]
) -> Mapping[str, Sketch]:
    """Return a sketch of each matrix's gradient of the summed loss; no gradient is kept for longer than a batch."""
    with _sketched(task.model, probes) as sketches:
        # Neighbours in length together, so that little is padding.
        by_length = sorted(rows, key=data.lengths.tolist().__getitem__)
        for chosen in _in_batches(by_length, _AT_ONCE):
            batch = data.gather(chosen)
            loss = task.losses(task.logits(batch), batch).sum()
            loss.backward()  # type: ignore[no-untyped-call]
    if not all(np.isfinite(each.range).all() and np.isfinite(each.corange).all() for each in sketches.values()):
        raise ModelError(
            f"The gradient of the model '{plan.model_name}' on the held-out examples is not finite.",
            reason=ErrorReason.MODEL_INVALID,
            next_step='Check the base model, or set [adapter] basis = "gram_schmidt".',
        )
    return sketches


@contextmanager
def _sketched(model: nn.Module, probes: Mapping[str, Probe]) -> Iterator[dict[str, Sketch]]:
    """Take a sketch of the gradient by each weight named, in every backward pass of the block, and add them up."""
    sketches: dict[str, Sketch] = {}

    def look_at(name: str) -> Any:
        def look(weight: torch.Tensor) -> None:
            if weight.grad is not None:
                seen = take_sketch(weight.grad.double().numpy(), probes[name])
                sketches[name] = add_sketches([sketches[name], seen]) if name in sketches else seen
                weight.grad = None

        return look

    model.requires_grad_(False)
    hooks = []
    for name in probes:
        weight = model.get_parameter(f"{name}.weight")
        weight.requires_grad_(True)
        hooks.append(weight.register_post_accumulate_grad_hook(look_at(name)))  # type: ignore[no-untyped-call]
    try:
        yield sketches
    finally:
        for hook in hooks:
            hook.remove()
        model.requires_grad_(False)
