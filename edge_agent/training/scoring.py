"""How much each head promises at this site, before a round trains: the paper's "gradient" scores (section 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_agent.training.outcome import not_finite
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import inject, remove, trained_cores
from ravan.adapters.state import ModelState
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan
from ravan.tasks.batch import Batch
from ravan.tasks.task_model import TaskModel


def score_heads(
    task: TaskModel[Any],
    plan: JobPlan,
    state: ModelState,
    heads: frozenset[BlockId],
    bases: BasisSource,
    batch: Batch,
) -> dict[BlockId, float]:
    """Return the norm of the batch's loss gradient by each of `heads`, as a share of the largest among them.

    All `heads` are put in as if they trained, with s_i = 1, and taken out again. No site can outweigh the others,
    however steep its loss. Where all gradients are 0, so are the scores. Raise DataError when one is not finite.
    """
    model = task.model
    inject(model, plan, state, heads, bases)
    try:
        cores = trained_cores(model, plan)
        loss = task.losses(task.logits(batch), batch).mean()
        gradients = torch.autograd.grad(loss, list(cores.values()))  # (k, r, r) each
    finally:
        remove(model)
    if not all(bool(each.isfinite().all()) for each in (loss, *gradients)):
        raise not_finite()
    norms = {
        head: norm
        for layer, gradient in zip(cores, gradients, strict=True)
        for head, norm in zip(layer, _norms(gradient), strict=True)
    }
    largest = max(norms.values())
    return {head: norm / largest if largest else 0.0 for head, norm in norms.items()}


def _norms(gradient: Tensor) -> list[float]:
    """Return the Frobenius norm of each core's gradient (k, r, r), summed in float64."""
    norms: list[float] = torch.linalg.matrix_norm(gradient.double()).tolist()
    return norms
