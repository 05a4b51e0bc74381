"""The directions of a job's bases as a file: safetensors, `left.N` (out, k) and `right.N` (k, in) of each matrix N."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ravan.adapters.basis import Directions, DirectionSource, FloatArray
from ravan.errors import ErrorReason, TransferError
from ravan.manifest.plan import Matrix


def encode_directions(found: Mapping[int, Directions]) -> bytes:
    """Serialise the directions of each matrix, given by ordinal."""
    left = {f"left.{ordinal}": each.left for ordinal, each in found.items()}
    right = {f"right.{ordinal}": each.right for ordinal, each in found.items()}
    # safetensors writes memory as it lies, and a transposed array lies the other way.
    return save({name: np.ascontiguousarray(array, np.float32) for name, array in (left | right).items()})


def directions_in(path: Path) -> DirectionSource:
    """Return a source that reads a matrix's directions when asked, so that those of one matrix are in memory.

    It raises TransferError MALFORMED where the file is none, or holds none of the matrix's shape.
    """

    def read(matrix: Matrix) -> Directions:
        try:
            with safe_open(path, framework="np") as file:
                left = _read(file, f"left.{matrix.ordinal}", matrix.out_features, axis=0)
                right = _read(file, f"right.{matrix.ordinal}", matrix.in_features, axis=1)
        except SafetensorError:
            raise _malformed() from None
        if left.shape[1] != right.shape[0]:
            raise _malformed()
        return Directions(left=left, right=right)

    return read


def _read(file: Any, name: str, length: int, *, axis: int) -> FloatArray:
    """Return a tensor of which one axis has this length and the other one no more; the header is looked at first."""
    part = file.get_slice(name)
    shape = part.get_shape()
    if part.get_dtype() != "F32" or len(shape) != 2 or shape[axis] != length or not 1 <= shape[1 - axis] <= length:
        raise _malformed()
    tensor: FloatArray = file.get_tensor(name)
    if not np.isfinite(tensor).all():
        raise _malformed()
    return tensor


def _malformed() -> TransferError:
    return TransferError(
        "The file of directions that the job's bases lead with cannot be used.",
        reason=ErrorReason.MALFORMED,
        next_step="Fetch it again; if it happens twice, the coordinator's stored copy is damaged.",
    )
