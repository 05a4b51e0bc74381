"""Bases as the plan wants them: drawn here where that gives the plan's digest, from files where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ravan.adapters.basis import Basis, BasisSource, basis_digest, decode_basis, drawn_bases
from ravan.manifest.plan import JobPlan, Matrix


def differing_matrices(plan: JobPlan) -> tuple[Matrix, ...]:
    """Return the matrices whose bases this machine draws otherwise than the plan's digest says, or cannot draw."""
    if not plan.adapter.basis.is_drawn:
        return plan.matrices
    draw = drawn_bases(plan.adapter)
    return tuple(matrix for matrix in plan.matrices if basis_digest(draw(matrix)) != matrix.basis_digest)


def planned_bases(plan: JobPlan, files: Mapping[int, Path]) -> BasisSource:
    """Return a source of the plan's bases; `files` holds those of the differing matrices by ordinal.

    The source raises TransferError MALFORMED for a file that holds no bases of the matrix's shape.
    """
    draw = drawn_bases(plan.adapter)

    def source(matrix: Matrix) -> Basis:
        if matrix.ordinal not in files:
            return draw(matrix)
        data = files[matrix.ordinal].read_bytes()
        return decode_basis(data, plan.adapter.for_matrix(matrix), matrix.out_features, matrix.in_features)

    return source
