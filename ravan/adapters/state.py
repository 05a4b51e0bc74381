"""The model state of a job: every head's core and every dense block, as float32 arrays.

One state is one model version. Its serialised form is a safetensors file whose SHA-256 agents are told;
it is small, since the base model never travels with it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from ravan.adapters.draws import draw_normals
from ravan.errors import ErrorReason, TransferError
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.plan import DenseParameter, JobPlan

FloatArray = NDArray[np.float32]

ModelState = Mapping[BlockId, FloatArray]
"""Each block of the plan: heads as (r, r), dense blocks in their own shape."""

INITIAL_SIGMA: Final = 0.02
"""Standard deviation of a fresh dense weight; BERT's `initializer_range` (Devlin et al. 2019, released code)."""

_HEADER_BYTES_PER_BLOCK: Final = 256
_HEADER_BYTES: Final = 4096


class _StoredTensor(TypedDict):
    """One tensor as the safetensors parser hands it over."""

    dtype: str
    shape: list[int]
    data: bytes


def block_shapes(plan: JobPlan) -> dict[BlockId, tuple[int, ...]]:
    """Return the shape of every block: dense blocks first, then heads, each by ascending id."""
    ranks = {matrix.ordinal: plan.adapter.for_matrix(matrix).rank for matrix in plan.matrices}
    dense = dict(zip(plan.dense_ids(), (p.shape for p in plan.dense), strict=True))
    return dense | {head: (ranks[head.matrix], ranks[head.matrix]) for head in plan.head_ids()}


def initial_state(plan: JobPlan) -> dict[BlockId, FloatArray]:
    """Return the state that a job starts from: cores 0, dense blocks drawn from the job's seed."""
    dense = zip(plan.dense_ids(), plan.dense, strict=True)
    drawn = {block: _initial_dense(plan.adapter.seed, parameter) for block, parameter in dense}
    shapes = block_shapes(plan)
    return drawn | {head: np.zeros(shapes[head], np.float32) for head in plan.head_ids()}


def _initial_dense(seed: bytes, parameter: DenseParameter) -> FloatArray:
    shape = parameter.shape
    if len(shape) >= 2:
        context = struct.pack(f">I{len(shape)}I", parameter.ordinal, *shape)
        return (draw_normals(seed, b"ravan/dense/v1", context, shape) * INITIAL_SIGMA).astype(np.float32)
    # A vector called weight is the gain of a normalisation, which does nothing at 1 and blocks everything at 0.
    gain = len(shape) == 1 and parameter.name.rpartition(".")[2] == "weight"
    return np.full(shape, 1.0 if gain else 0.0, np.float32)


def encode_state(plan: JobPlan, state: ModelState) -> bytes:
    """Serialise as safetensors; raise ValueError when blocks or shapes are not the plan's."""
    shapes = block_shapes(plan)
    if {block: array.shape for block, array in state.items()} != shapes:
        raise ValueError("the state's blocks are not those of the plan")
    return save({_name(block): np.asarray(state[block], np.float32, order="C") for block in shapes})


def decode_state(plan: JobPlan, data: bytes) -> dict[BlockId, FloatArray]:
    """Read `encode_state`'s bytes.

    Raise TransferError MALFORMED when the bytes are no safetensors, or a block is extra, missing, of another
    shape or type, or not finite. The size is checked before anything is parsed.
    """
    shapes = block_shapes(plan)
    payload = sum(4 * int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    if not payload <= len(data) <= payload + _HEADER_BYTES + _HEADER_BYTES_PER_BLOCK * len(shapes):
        raise _malformed(f"{len(data)} bytes cannot hold its {len(shapes)} blocks")
    try:
        tensors = dict(cast(list[tuple[str, _StoredTensor]], deserialize(data)))  # type: ignore[no-untyped-call]
    except SafetensorError:
        raise _malformed("it is no safetensors file") from None
    if tensors.keys() != {_name(block) for block in shapes}:
        raise _malformed("its blocks are not those of the job")
    return {block: _read_array(_name(block), tensors[_name(block)], shape) for block, shape in shapes.items()}


def _read_array(name: str, tensor: _StoredTensor, shape: tuple[int, ...]) -> FloatArray:
    if tensor["dtype"] != "F32" or tuple(tensor["shape"]) != shape:
        raise _malformed(f"{name} has another type or shape")
    array = np.frombuffer(tensor["data"], "<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise _malformed(f"{name} holds a number that is not finite")
    return array


def state_digest(plan: JobPlan, state: ModelState) -> Digest:
    """Return the SHA-256 of `encode_state`."""
    return Digest(hashlib.sha256(encode_state(plan, state)).digest())


def apply_mean(state: ModelState, means: Mapping[BlockId, NDArray[np.float64]]) -> dict[BlockId, FloatArray]:
    """Return the next state: each block plus its mean delta, added in float64; blocks without one stay.

    Mean of deltas plus the global product is the mean of products (paper, equation 8). Raise ValueError for
    a delta of an unknown block or of another shape.
    """
    if any(block not in state or mean.shape != state[block].shape for block, mean in means.items()):
        raise ValueError("a mean delta does not belong to the state")
    return {
        block: (array.astype(np.float64) + means[block]).astype(np.float32) if block in means else array.copy()
        for block, array in state.items()
    }


def mean_state(states: Sequence[ModelState]) -> dict[BlockId, FloatArray]:
    """Return the mean of versions of one plan, block by block, in float64.

    Weights are linear in heads on the same bases, so it is the mean of the versions' weights too.
    """
    first = states[0]
    return {
        block: np.asarray(np.mean([state[block] for state in states], axis=0, dtype=np.float64), np.float32)
        for block in first
    }


def _name(block: BlockId) -> str:
    if block.kind is BlockKind.HEAD:
        return f"head.{block.epoch}.{block.matrix}.{block.index}"
    return f"dense.{block.matrix}"


def _malformed(what: str) -> TransferError:
    return TransferError(
        f"The model state that arrived cannot be used: {what}.",
        reason=ErrorReason.MALFORMED,
        next_step="Fetch it again; if it happens twice, the coordinator's stored copy is damaged.",
    )
