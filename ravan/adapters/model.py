"""Ravan heads in a whole model: find the layers, put the heads in for a round, read the deltas, take them out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from ravan.adapters.basis import BasisSource, drawn_bases
from ravan.adapters.int8 import Int8Linear
from ravan.adapters.layer import BaseLinear, RavanLinear
from ravan.adapters.narrow import Bfloat16Linear
from ravan.adapters.state import FloatArray, ModelState
from ravan.adapters.targets import match_targets
from ravan.errors import ErrorReason, ModelError
from ravan.ids import BlockId, BlockKind
from ravan.manifest.plan import JobPlan, Matrix

_PLAIN: Final = (nn.Linear, Bfloat16Linear, Int8Linear)
"""Other kinds of linear layers may compute something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedParameters:
    """What an optimiser gets, by learning rate."""

    heads: tuple[nn.Parameter, ...]
    dense: tuple[nn.Parameter, ...]


def find_linears(
    model: nn.Module, targets: Collection[str], exclude: Collection[str] = ()
) -> list[tuple[str, int, int]]:
    """Return (name, out, in) of every plain linear layer that a target means, bottom to top.

    A target is the end of a dotted name or a role (`targets.Role`). `exclude` names modules to leave out, such as a
    classifier that is trained whole. Raise ConfigError when a target matches nothing.
    """
    linears = {name: module for name, module in model.named_modules() if type(module) in _PLAIN}
    wanted = match_targets(linears, _model_type(model), targets) - set(exclude)
    return [(name, m.out_features, m.in_features) for name, m in linears.items() if name in wanted]


def inject(
    model: nn.Module,
    plan: JobPlan,
    state: ModelState,
    trained: frozenset[BlockId],
    bases: BasisSource | None = None,
) -> None:
    """Put the model into `state`, ready to train the blocks in `trained`; everything else is frozen.

    Heads of an earlier injection are replaced, and all s_i are 1. With no head in `trained` every head is
    put to rest: the form for evaluation. Bases are built one matrix at a time, and only where they are needed.
    Raise ModelError when the plan's names and shapes are not the model's.
    """
    remove(model)
    model.requires_grad_(False)
    source = drawn_bases(plan.adapter) if bases is None else bases
    for matrix in plan.matrices:
        _inject_matrix(model, plan, matrix, state, trained, source)
    for block, parameter in _dense_parameters(model, plan):
        parameter.detach().copy_(torch.from_numpy(state[block]))
        parameter.requires_grad_(block in trained)


def remove(model: nn.Module) -> None:
    """Put the original layers back, bit for bit as they were; dense blocks keep what they were trained to."""
    wrapped = [(name, m) for name, m in model.named_modules() if isinstance(m, RavanLinear)]
    for name, module in wrapped:
        model.set_submodule(name, module.base)


def merge_heads(model: nn.Module, plan: JobPlan, state: ModelState, bases: BasisSource | None = None) -> None:
    """Put all heads into the layers' own weights for good, in float32, so that plain layers are left.

    Raise ModelError when the plan's names and shapes are not the model's.
    """
    inject(model, plan, state, frozenset(), bases)
    for name, module in list(model.named_modules()):
        if isinstance(module, RavanLinear):
            model.set_submodule(name, module.merged())


def trained_parameters(model: nn.Module, plan: JobPlan) -> TrainedParameters:
    """Return the parameters that an injected model trains: cores and scales, bottom to top, and dense blocks."""
    layers = [m for m in model.modules() if isinstance(m, RavanLinear)]
    heads = [p for layer in layers for p in (layer.cores, layer.scales) if p is not None and p.requires_grad]
    dense = [p for _, p in _dense_parameters(model, plan) if p.requires_grad]
    return TrainedParameters(heads=tuple(heads), dense=tuple(dense))


def local_deltas(
    model: nn.Module, plan: JobPlan, state: ModelState, trained: frozenset[BlockId]
) -> dict[BlockId, FloatArray]:
    """Return what training changed: s_i H_i - H_i(global) of trained heads (r, r), new - old of dense blocks."""
    now = dict(_products(model, plan)) | {b: p.detach().numpy() for b, p in _dense_parameters(model, plan)}
    return {block: now[block] - state[block] for block in sorted(trained)}


def trained_cores(model: nn.Module, plan: JobPlan) -> dict[tuple[BlockId, ...], nn.Parameter]:
    """Return the cores (k, r, r) of each layer with trained heads, by the ids of these k heads, bottom to top."""
    return {heads: layer.cores for heads, layer in _trained_layers(model, plan) if layer.cores is not None}


def _products(model: nn.Module, plan: JobPlan) -> Iterator[tuple[BlockId, FloatArray]]:
    for heads, layer in _trained_layers(model, plan):
        yield from zip(heads, layer.products.detach().numpy(), strict=True)


def _trained_layers(model: nn.Module, plan: JobPlan) -> Iterator[tuple[tuple[BlockId, ...], RavanLinear]]:
    for matrix in plan.matrices:
        layer = model.get_submodule(matrix.name)
        if isinstance(layer, RavanLinear) and layer.trained:
            yield tuple(BlockId(BlockKind.HEAD, plan.adapter.epoch, matrix.ordinal, i) for i in layer.trained), layer


def _inject_matrix(
    model: nn.Module,
    plan: JobPlan,
    matrix: Matrix,
    state: ModelState,
    trained: frozenset[BlockId],
    bases: BasisSource,
) -> None:
    ids = [BlockId(BlockKind.HEAD, plan.adapter.epoch, matrix.ordinal, i) for i in range(plan.adapter.heads)]
    chosen = tuple(i for i, block in enumerate(ids) if block in trained)
    layer = RavanLinear(_linear_of(model, matrix))
    if chosen or any(state[block].any() for block in ids):
        products = torch.stack([torch.from_numpy(state[block]) for block in ids])  # (h, r, r)
        layer.load_heads(bases(matrix), products, chosen, train_scales=plan.adapter.train_scales)
    model.set_submodule(matrix.name, layer)


def _linear_of(model: nn.Module, matrix: Matrix) -> BaseLinear:
    try:
        module = model.get_submodule(matrix.name)
    except AttributeError:
        raise _not_the_model(matrix.name) from None
    shape = (matrix.out_features, matrix.in_features)
    if not isinstance(module, BaseLinear) or (module.out_features, module.in_features) != shape:
        raise _not_the_model(matrix.name)
    return module


def _dense_parameters(model: nn.Module, plan: JobPlan) -> Iterator[tuple[BlockId, nn.Parameter]]:
    for block, wanted in zip(plan.dense_ids(), plan.dense, strict=True):
        try:
            parameter = model.get_parameter(wanted.name)
        except AttributeError:
            raise _not_the_model(wanted.name) from None
        if tuple(parameter.shape) != wanted.shape:
            raise _not_the_model(wanted.name)
        yield block, parameter


def _model_type(model: nn.Module) -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return kind if isinstance(kind, str) else type(model).__name__


def _not_the_model(name: str) -> ModelError:
    return ModelError(
        f"The job's plan names {name}, which the model does not have in that shape.",
        reason=ErrorReason.MODEL_INVALID,
        next_step="Check that agent and coordinator run the same version of transformers.",
    )
