"""The rank of each adapted matrix: the one that the job names, or what a LoRA rank would cost there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from coordinator.jobs.jobfile import AdapterTable
from ravan.adapters.budget import largest_rank, rank_for_budget
from ravan.manifest.plan import BasisKind, JobPlan, Matrix


def choose_ranks(table: AdapterTable, basis: BasisKind, sizes: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return r for each matrix of (out, in); `auto`: the largest within its budget that its bases fit, at least 1."""
    if table.rank != "auto":
        return (table.rank,) * len(sizes)
    crowded = table.heads if basis.is_orthogonal else 1
    return tuple(
        max(1, min(rank_for_budget(*size, table.lora_rank, table.heads), largest_rank(*size, crowded)))
        for size in sizes
    )


def describe_ranks(plan: JobPlan, table: AdapterTable) -> Iterator[str]:
    """Yield a sentence for each shape of matrix: its rank, and what plain LoRA would train there."""
    if table.rank != "auto" or not plan.matrices:
        return
    ordered = sorted(plan.matrices, key=_shape, reverse=True)
    for (out, inputs), group in groupby(ordered, key=_shape):
        matrices = list(group)
        rank = plan.adapter.for_matrix(matrices[0]).rank
        kinds = ", ".join(sorted({matrix.name.rpartition(".")[2] for matrix in matrices}))
        yield (
            f"{out} x {inputs} ({kinds}; {len(matrices)}): rank {rank}, so {plan.adapter.heads * rank**2:,} numbers "
            f"each; LoRA of rank {table.lora_rank} has {(out + inputs) * table.lora_rank:,}."
        )


def _shape(matrix: Matrix) -> tuple[int, int]:
    return matrix.out_features, matrix.in_features
