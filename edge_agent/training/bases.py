"""Bases as the plan wants them: drawn here where that gives the plan's digest, downloaded where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ravan.adapters.basis import Basis, BasisSource, basis_digest, decode_basis, drawn_bases
from ravan.manifest.plan import JobPlan, Matrix


def differing_matrices(plan: JobPlan) -> tuple[Matrix, ...]:
    """Return the matrices whose bases this machine draws otherwise than the plan's digest says."""
    draw = drawn_bases(plan.adapter)
    return tuple(matrix for matrix in plan.matrices if basis_digest(draw(matrix)) != matrix.basis_digest)


def planned_bases(plan: JobPlan, downloaded: Mapping[int, Path]) -> BasisSource:
    """Return a source of the plan's bases; `downloaded` holds files of the differing ones by matrix ordinal."""
    draw = drawn_bases(plan.adapter)

    def source(matrix: Matrix) -> Basis:
        if matrix.ordinal not in downloaded:
            return draw(matrix)
        data = downloaded[matrix.ordinal].read_bytes()
        return decode_basis(data, plan.adapter.for_matrix(matrix), matrix.out_features, matrix.in_features)

    return source
