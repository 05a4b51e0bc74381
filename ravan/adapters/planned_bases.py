"""Bases as the plan wants them: drawn here where that gives the plan's digest, from files where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ravan.adapters.basis import Basis, BasisSource, basis_digest, decode_basis, drawn_bases
from ravan.adapters.directions import directions_in
from ravan.manifest.plan import JobPlan, Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class BasisFiles:
    """What a job's bases need beside its plan, on this machine."""

    directions: Path | None = None
    """What bases lead with, where the plan names such a file."""
    whole: Mapping[int, Path] = field(default_factory=dict)
    """Bases that this machine draws differently, by matrix ordinal."""


def differing_matrices(plan: JobPlan, directions: Path | None = None) -> tuple[Matrix, ...]:
    """Return the matrices whose bases this machine draws otherwise than the plan's digest says."""
    draw = planned_bases(plan, BasisFiles(directions=directions))
    return tuple(matrix for matrix in plan.matrices if basis_digest(draw(matrix)) != matrix.basis_digest)


def planned_bases(plan: JobPlan, files: BasisFiles) -> BasisSource:
    """Return a source of the plan's bases.

    It raises TransferError MALFORMED for a file that holds nothing of the matrix's shape.
    """
    draw = drawn_bases(plan.adapter, None if files.directions is None else directions_in(files.directions))

    def source(matrix: Matrix) -> Basis:
        if matrix.ordinal not in files.whole:
            return draw(matrix)
        data = files.whole[matrix.ordinal].read_bytes()
        return decode_basis(data, plan.adapter.for_matrix(matrix), matrix.out_features, matrix.in_features)

    return source
