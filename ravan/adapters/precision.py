"""A loaded model's weights in the precision that a job asks for, and back to float32 for an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ravan.adapters.int8 import Int8Linear
from ravan.adapters.narrow import ACTIVATIONS, Bfloat16Linear, plain_linear
from ravan.errors import ErrorReason, ModelError
from ravan.manifest.plan import Precision


def apply_precision(model: nn.Module, precision: Precision, keep: Collection[str]) -> None:
    """Narrow the weights of a model in place, one at a time.

    The modules of the parameters in `keep`, which a job trains whole, stay float32 and are given float32. So does batch
    normalisation, whose running statistics do not bear rounding. Raise ModelError when a kept parameter's module has
    parts of its own, whose types would then not agree, and for a weight that is not finite.
    """
    if precision is Precision.FLOAT32:
        return
    kept = {name.rpartition(".")[0] for name in keep}
    for name in sorted(kept):
        _keep_wide(model, name, precision)
    shared = _shared_weights(model)
    # By name: a list of the modules would hold all old weights until the last is narrow.
    for name in [name for name, _ in model.named_modules()]:
        if name not in kept:
            _narrow(model, name, precision, shared)


def widen_model(model: nn.Module) -> None:
    """Make all layers plain ones in float32 again; the values stay as they were rounded."""
    for name in [name for name, _ in model.named_modules()]:
        module = model.get_submodule(name)
        if isinstance(module, Int8Linear | Bfloat16Linear):
            model.set_submodule(name, plain_linear(module.weight, module.bias))
    for parameter in model.parameters():
        parameter.data = parameter.data.float()


def _narrow(model: nn.Module, name: str, precision: Precision, shared: frozenset[int]) -> None:
    module = model.get_submodule(name)
    if isinstance(module, _BatchNorm):
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.float()
        return
    linear = module if type(module) is nn.Linear else None
    if linear is not None and precision is Precision.INT8 and id(linear.weight) not in shared:
        model.set_submodule(name, Int8Linear.of(linear))
        return
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(ACTIVATIONS)
    if linear is not None:
        model.set_submodule(name, Bfloat16Linear.of(linear))


def _keep_wide(model: nn.Module, name: str, precision: Precision) -> None:
    module = model.get_submodule(name)
    if list(module.children()):
        raise ModelError(
            f"The job trains a parameter of {name or 'the whole model'} itself, which cannot stay float32 while its "
            f"parts are {precision}.",
            reason=ErrorReason.MODEL_INVALID,
            next_step='Set [model] precision = "float32".',
        )
    module.register_forward_pre_hook(_give_float32)
    if name.startswith(f"{getattr(model, 'base_model_prefix', '')}."):
        # What comes after it in the model expects what its neighbours pass on.
        module.register_forward_hook(_pass_on)
    for parameter in module.parameters():
        # Its own memory: one view of the weights' file would keep all of it mapped.
        parameter.data = parameter.data.to(torch.float32, copy=True)


def _give_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


def _pass_on(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.to(ACTIVATIONS)


def _shared_weights(model: nn.Module) -> frozenset[int]:
    """Return which parameters stand in more than one module, as a table of embeddings that is the output layer too."""
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return frozenset(parameter for parameter, count in uses.items() if count > 1)
