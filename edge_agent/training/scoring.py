"""How much each head promises at this site, before a round trains: the paper's "gradient" scores (section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edge_agent.data.batches import Batch
from edge_agent.training.lower_part import logits_of
from edge_agent.training.outcome import not_finite
from ravan.adapters.basis import BasisSource
from ravan.adapters.model import inject, remove, trained_cores
from ravan.adapters.state import ModelState
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan


def score_heads(
    model: nn.Module,
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
    inject(model, plan, state, heads, bases)
    try:
        cores = trained_cores(model, plan)
        loss = cross_entropy(logits_of(model, batch), batch.labels)
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
