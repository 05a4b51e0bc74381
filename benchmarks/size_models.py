"""Large models by shape alone, and what training a quarter of their heads will take, worked out on the meta device.

The meta device runs a model's whole step without memory or arithmetic: tensors have shapes and nothing else. What the
step keeps for its backward pass and how much it multiplies are therefore counted, not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from benchmarks.step_models import CLASSES, Case, plan_for
from coordinator.allocation.tiles import form_tiles
from ravan.adapters.basis import Basis, BasisSource
from ravan.adapters.model import inject, trained_parameters
from ravan.adapters.precision import apply_precision
from ravan.adapters.state import block_shapes, initial_state
from ravan.ids import BlockId, BlockKind
from ravan.manifest.assignment import MAX_TILES
from ravan.manifest.plan import JobPlan, Matrix, Precision
from ravan.secagg.packing import packed_bytes

TOKENS: Final = 128
RING_BITS: Final = 24

_NUMBER: Final = 4
"""Bytes of a float32."""

_BLOCK: Final = 8 << 20
"""A narrow weight is widened by so many bytes at a time."""

_COPIES: Final = 4
"""A trained number has a gradient and AdamW's two moments beside it."""

LLAMA_1B: Final[Mapping[str, int | bool]] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
}
"""Llama 3.2 1B as published in its configuration."""

LLAMA_7B: Final[Mapping[str, int | bool]] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
}
"""Llama 2 7B as published in its configuration."""

SHAPES: Final = {"llama 1.2b": LLAMA_1B, "llama 7b": LLAMA_7B}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a site will need to train a quarter of the tiles, batch 1, in the first round."""

    parameters: int
    """Numbers of the base model."""
    matrices: int
    trained_matrices: int
    trained: int
    """Numbers that are trained: cores, scales and the new classifier."""
    model_bytes: int
    """The base model in its precision, and the new classifier."""
    adapter_bytes: int
    """Bases of the trained heads, and each trained number with gradient and moments."""
    kept_bytes: int
    """What a step keeps from forward to backward."""
    working_bytes: int
    """What one layer takes for itself: nothing beyond its results in float32, else what it is widened into."""
    step_flops: int
    """Floating-point operations of one step."""
    upload_bytes: int
    """Masked upload of the quarter and the classifier, without keys and shares."""
    version_bytes: int
    """All cores and the classifier: what a site downloads for each round."""

    @property
    def extra_bytes(self) -> int:
        """Return what a step takes over the loaded model."""
        return self.adapter_bytes + self.kept_bytes + self.working_bytes


def case_of(name: str, precision: Precision) -> Case:
    """Return a case that builds the shape with random weights on the current device, narrow from the start."""
    return Case(name=name, build=lambda: _build(SHAPES[name], precision), batch_size=1, tokens=TOKENS)


def quarter(plan: JobPlan) -> frozenset[BlockId]:
    """Return the blocks of the upper quarter of the tiles, and the dense blocks."""
    tiles = form_tiles(plan)[: MAX_TILES // 4]
    return frozenset(plan.dense_ids()).union(*(tile.blocks for tile in tiles))


def forecast(name: str, precision: Precision) -> Forecast:
    """Plan the shape on the meta device and count what a quarter allocation takes there."""
    case = case_of(name, precision)
    with torch.device("meta"):
        model = case.build()
    parameters = list(model.parameters())
    count, size = sum(p.numel() for p in parameters), sum(p.numel() * p.itemsize for p in parameters)
    plan = plan_for(model, case, ("all",))
    trained, shapes = quarter(plan), block_shapes(plan)
    inject(model, plan, initial_state(plan), trained, _empty_bases(plan))
    model.to("meta")
    kept, flops = _count_step(model)
    chosen = trained_parameters(model, plan)
    numbers = sum(parameter.numel() for parameter in (*chosen.heads, *chosen.dense))
    matrices = {block.matrix for block in trained if block.kind is BlockKind.HEAD}
    bases = [_basis_numbers(plan, plan.matrices[matrix]) for matrix in matrices]
    narrow = precision is not Precision.FLOAT32
    return Forecast(
        parameters=count,
        matrices=len(plan.matrices),
        trained_matrices=len(matrices),
        trained=numbers,
        model_bytes=size,
        adapter_bytes=_NUMBER * _COPIES * numbers + (_NUMBER // 2 if narrow else _NUMBER) * sum(bases),
        kept_bytes=kept,
        working_bytes=_BLOCK + _NUMBER * max(bases) if narrow else 0,
        step_flops=flops,
        # Each block has a flag beside its numbers that tells whether it was clipped.
        upload_bytes=packed_bytes(RING_BITS) * sum(prod(shapes[block]) + 1 for block in trained),
        version_bytes=_NUMBER * sum(map(prod, shapes.values())),
    )


def _build(shape: Mapping[str, int | bool], precision: Precision) -> nn.Module:
    config = AutoConfig.for_model("llama", **shape, num_labels=CLASSES)
    dtype = torch.float32 if precision is Precision.FLOAT32 else torch.bfloat16
    model: nn.Module = AutoModelForSequenceClassification.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    apply_precision(model, precision, ["score.weight"])
    return model.eval()


def _count_step(model: nn.Module) -> tuple[int, int]:
    """Return the bytes that a step keeps for its backward pass beside weights and bases, and its operations."""
    own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor
        return tensor

    ids = torch.ones(1, TOKENS, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids).logits.sum().backward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), counter.get_total_flops()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _basis_numbers(plan: JobPlan, matrix: Matrix) -> int:
    rank = plan.adapter.for_matrix(matrix).rank
    return plan.adapter.heads * rank * (matrix.out_features + matrix.in_features)


def _empty_bases(plan: JobPlan) -> BasisSource:
    """Return a source of bases that are right in shape only."""

    def source(matrix: Matrix) -> Basis:
        heads, rank = plan.adapter.heads, plan.adapter.for_matrix(matrix).rank
        return Basis(
            b=np.zeros((heads, matrix.out_features, rank), np.float32),
            a=np.zeros((heads, rank, matrix.in_features), np.float32),
        )

    return source
