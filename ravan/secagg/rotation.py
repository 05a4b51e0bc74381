"""A public rotation that spreads a core's weight evenly over its coordinates before they are rounded.

An L2 bound C allows one coordinate to be as large as C, so a fixed-point step must be C / Q. After a
randomised Hadamard rotation (signs of a public stream, then the orthonormal Hadamard matrix from both
sides) each coordinate of a core of norm C is below `spread` x C but for a chance of `TAIL`, and the step is
as much finer: 1.5, 2.5 and 3.4 bits for r = 16, 32 and 64. The rotation keeps norms and sums, so the
mean is rotated back once. It is no secret: a new one for each block and round keeps no coordinate
badly rounded for long.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ravan.ids import BlockKind
from ravan.keystream import expand
from ravan.manifest.assignment import Assignment, BlockSpec

TAIL: Final = 1e-4
"""Chance that any coordinate of a rotated block exceeds the bound and is cut; the block's clip flag then tells."""

_LABEL: Final = b"ravan/v1/rotation"


def rotated_side(assignment: Assignment, spec: BlockSpec) -> int:
    """Return r when the round rotates this block's r x r core, else 0: only powers of two have the matrix."""
    side = math.isqrt(spec.length)
    square = side * side == spec.length and side & side - 1 == 0
    return side if assignment.rotate and spec.block_id.kind is BlockKind.HEAD and square else 0


def coordinate_bound(assignment: Assignment, spec: BlockSpec) -> float:
    """Return what the largest integer Q stands for: a step is this bound / quantum_limit."""
    if not rotated_side(assignment, spec):
        return spec.clip
    # Sub-Gaussian tail of a signed sum with weights of norm C / sqrt(m), over m coordinates.
    return spec.clip * min(1.0, math.sqrt(2 * math.log(2 * spec.length / TAIL) / spec.length))


def sign_bits(assignment: Assignment, spec: BlockSpec) -> bytes:
    """Return one bit a coordinate, most significant first: 1 turns the sign."""
    context = assignment.round_number.to_bytes(8, "big") + spec.block_id.pack().to_bytes(8, "big")
    return expand(assignment.run_id, _LABEL, context, -(-spec.length // 8))


def rotate(assignment: Assignment, spec: BlockSpec, flat: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rotated block, row-major; it must be one that `rotated_side` names."""
    side = rotated_side(assignment, spec)
    matrix, signs = _hadamard(side), _signs(assignment, spec)
    rotated: NDArray[np.float64] = matrix @ (signs * flat).reshape(side, side) @ matrix
    return rotated.ravel()


def rotate_back(assignment: Assignment, spec: BlockSpec, flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `rotate` was given."""
    side = rotated_side(assignment, spec)
    matrix = _hadamard(side)
    return (matrix @ flat.reshape(side, side) @ matrix).ravel() * _signs(assignment, spec)


@lru_cache(maxsize=8)
def _hadamard(side: int) -> NDArray[np.float64]:
    """Return the symmetric orthonormal Hadamard matrix, which is its own inverse."""
    block = np.array([[1.0, 1.0], [1.0, -1.0]])
    matrix = np.ones((1, 1))
    while len(matrix) < side:
        matrix = np.kron(block, matrix)
    return (matrix / math.sqrt(side)).astype(np.float64)


def _signs(assignment: Assignment, spec: BlockSpec) -> NDArray[np.float64]:
    bits = np.unpackbits(np.frombuffer(sign_bits(assignment, spec), np.uint8), count=spec.length)
    return (1.0 - 2.0 * bits).astype(np.float64)
