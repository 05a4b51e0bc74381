"""Job plans and states for adapter tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ravan.adapters.basis import Directions, basis_digest, draw_basis
from ravan.adapters.draws import draw_normals
from ravan.adapters.state import FloatArray, block_shapes
from ravan.ids import BlockId, Digest, JobId, RunId
from ravan.manifest.plan import (
    AdapterSettings,
    BasisKind,
    Denominator,
    DenseParameter,
    JobPlan,
    Matrix,
    ModelFile,
    Optimiser,
    Task,
    TrainingSettings,
)

SEED = bytes(range(32))


DRAWN_KINDS = [kind for kind in BasisKind if not kind.is_led]


def lead_for(kind: BasisKind, out: int, inputs: int, count: int = 3) -> Directions | None:
    """Return directions for a kind that leads with some; nearly orthonormal, and the same bits on every machine."""
    if not kind.is_led:
        return None
    left, right = (draw_normals(SEED, b"test/lead", bytes([n]), (n, count)) / n**0.5 for n in (out, inputs))
    return Directions(left=left.astype(np.float32), right=np.ascontiguousarray(right.T, np.float32))


def settings_for(
    heads: int, rank: int, kind: BasisKind = BasisKind.GRAM_SCHMIDT, seed: bytes = SEED
) -> AdapterSettings:
    return AdapterSettings(heads=heads, rank=rank, basis=kind, seed=seed)


def plan_for(
    linears: Sequence[tuple[str, int, int]],
    adapter: AdapterSettings,
    dense: Sequence[tuple[str, tuple[int, ...]]] = (),
    labels: tuple[str, ...] = ("pump", "engine", "cab"),
    ranks: Sequence[int] = (0,),
) -> JobPlan:
    """Matrices take turns at `ranks`, 0 standing for the adapter's."""
    return JobPlan(
        run_id=RunId(bytes(16)),
        job_id=JobId("job-1"),
        job_name="excavators",
        model_name="tiny",
        model_files=(ModelFile(path="config.json", sha256=Digest(bytes(32)), size_bytes=2),),
        adapter=adapter,
        matrices=tuple(
            _matrix(adapter, ordinal, ranks[ordinal % len(ranks)], *linear) for ordinal, linear in enumerate(linears)
        ),
        dense=tuple(DenseParameter(ordinal=i, name=name, shape=shape) for i, (name, shape) in enumerate(dense)),
        training=TrainingSettings(
            task=Task.SEQUENCE_CLASSIFICATION,
            data="orders",
            labels=labels,
            max_length=16,
            batch_size=4,
            steps=3,
            optimiser=Optimiser.ADAMW,
            learning_rate=1e-3,
            dense_learning_rate=1e-3,
            weight_decay=0.0,
        ),
        denominator=Denominator.TRAINERS,
    )


def random_state(plan: JobPlan, seed: int) -> dict[BlockId, FloatArray]:
    """A state as after some rounds: every block away from zero."""
    generator = np.random.default_rng(seed)
    shapes = block_shapes(plan)
    return {block: generator.normal(0, 0.1, shape).astype(np.float32) for block, shape in shapes.items()}


def _matrix(
    adapter: AdapterSettings, ordinal: int, rank: int, name: str, out_features: int, in_features: int
) -> Matrix:
    own = replace(adapter, rank=rank) if rank else adapter
    digest = basis_digest(draw_basis(own, ordinal, out_features, in_features)) if adapter.heads else bytes(32)
    return Matrix(
        ordinal=ordinal,
        name=name,
        out_features=out_features,
        in_features=in_features,
        basis_digest=Digest(bytes(digest)),
        rank=rank,
    )
