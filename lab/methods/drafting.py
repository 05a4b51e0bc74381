"""A job plan of the product for a run of the laboratory."""

from __future__ import annotations

import math

from coordinator.jobs.jobfile import AdapterTable
from coordinator.jobs.ranks import choose_ranks
from lab.methods.method import Bench
from ravan.adapters.model import find_linears
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.plan import AdapterSettings, BasisKind, Denominator, DenseParameter, JobPlan, Matrix

_NO_DIGEST = Digest(bytes(32))
"""Bases are drawn here and travel nowhere."""


def draft_plan(
    bench: Bench,
    *,
    heads: int,
    basis: BasisKind = BasisKind.GRAM_SCHMIDT,
    train_scales: bool = True,
    denominator: Denominator = Denominator.TRAINERS,
    share: float = 1.0,
) -> JobPlan:
    """Return a plan whose heads hold as many numbers per matrix as LoRA of the run's rank, as a job file's would.

    `share` is the part of these numbers that the heads are given, lest something else that travels exceed the budget.
    """
    task = bench.lab.task
    sizes = adapted_matrices(bench) if heads else []
    table = AdapterTable(heads=heads, lora_rank=bench.cell.training.lora_rank, targets=bench.targets)
    ranks = choose_ranks(table, basis, [(out, inputs) for _, out, inputs in sizes])
    if share < 1:
        numbers = [int(share * bench.cell.training.lora_rank * (out + inputs)) for _, out, inputs in sizes]
        ranks = tuple(min(rank, max(1, math.isqrt(n // heads))) for rank, n in zip(ranks, numbers, strict=True))
    adapter = AdapterSettings(
        heads=heads,
        rank=max(ranks, default=0),
        basis=basis,
        seed=bench.adapter_seed,
        train_scales=train_scales,
    )
    return JobPlan(
        run_id=RunId(bench.adapter_seed[:16]),
        job_id=JobId("lab"),
        job_name="lab",
        model_name=bench.lab.name,
        model_files=(),
        adapter=adapter,
        matrices=tuple(
            _matrix(ordinal, size, 0 if rank == adapter.rank else rank)
            for ordinal, (size, rank) in enumerate(zip(sizes, ranks, strict=True))
        ),
        dense=tuple(DenseParameter(ordinal=i, name=name, shape=s) for i, (name, s) in enumerate(task.new_parameters)),
        training=bench.settings,
        denominator=denominator,
    )


def _matrix(ordinal: int, size: tuple[str, int, int], own_rank: int) -> Matrix:
    name, out, inputs = size
    return Matrix(
        ordinal=ordinal, name=name, out_features=out, in_features=inputs, basis_digest=_NO_DIGEST, rank=own_rank
    )


def adapted_matrices(bench: Bench) -> list[tuple[str, int, int]]:
    """Return (name, out, in) of every adapted layer, bottom to top."""
    task = bench.lab.task
    new_layers = [name.rpartition(".")[0] for name, _ in task.new_parameters]
    return find_linears(task.model, bench.targets, new_layers)
