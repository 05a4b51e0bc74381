"""Job plans for the coordinator's tests; bases are not drawn, digests are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence

from ravan.ids import Digest, JobId, RunId
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


def plan_of(
    matrices: int = 12,
    *,
    heads: int = 4,
    rank: int = 3,
    width: int = 12,
    dense: Sequence[tuple[str, tuple[int, ...]]] = (("classifier.weight", (3, 12)), ("classifier.bias", (3,))),
    denominator: Denominator = Denominator.TRAINERS,
) -> JobPlan:
    return JobPlan(
        run_id=RunId(bytes(range(16))),
        job_id=JobId("excavators-0a1b2c3d"),
        job_name="excavators",
        model_name="tiny",
        model_files=(ModelFile(path="config.json", sha256=Digest(bytes(32)), size_bytes=2),),
        adapter=AdapterSettings(heads=heads, rank=rank, basis=BasisKind.GRAM_SCHMIDT, seed=bytes(range(32))),
        matrices=tuple(
            Matrix(
                ordinal=ordinal,
                name=f"layer.{ordinal}.query",
                out_features=width,
                in_features=width,
                basis_digest=Digest(ordinal.to_bytes(32, "big")),
            )
            for ordinal in range(matrices)
        ),
        dense=tuple(DenseParameter(ordinal=i, name=name, shape=shape) for i, (name, shape) in enumerate(dense)),
        training=TrainingSettings(
            task=Task.SEQUENCE_CLASSIFICATION,
            data="orders",
            labels=("pump", "engine", "cab"),
            max_length=16,
            batch_size=4,
            steps=10,
            optimiser=Optimiser.ADAMW,
            learning_rate=1e-3,
            dense_learning_rate=1e-3,
            weight_decay=0.0,
        ),
        denominator=denominator,
    )
