"""Plans, settings and random versions for what the evaluation process does, and a way to have it begin afresh."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from job_plans import plan_of
from numpy.typing import NDArray

from coordinator.evaluation import worker
from coordinator.evaluation.findings import Inventory
from ravan.adapters.state import block_shapes
from ravan.data.source import DataSource
from ravan.ids import BlockId
from ravan.manifest.plan import JobPlan, Matrix, TrainingSettings


def forget_models() -> None:
    """Drop the model and the data that are kept between calls."""
    worker._KEPT.task = worker._KEPT.data = worker._KEPT.model_key = worker._KEPT.data_key = None


def write_held_out(folder: Path, rows: Iterable[tuple[str, str]]) -> DataSource:
    """Write (text, label) rows as a held-out file, named by a hash as the coordinator's is."""
    path = folder / "0a0b"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return DataSource(path=path, name="held-out.csv")


def settings(classes: int = 3, **changes: Any) -> TrainingSettings:
    labels = ("pump", "engine", "cab", "brakes", "lights")[:classes]
    return replace(plan_of(0).training, labels=labels, **changes)


def plan_from(inventory: Inventory, heads: int = 2, rank: int = 3) -> JobPlan:
    plan = plan_of(0, heads=heads, rank=rank, dense=inventory.dense)
    matrices = tuple(
        Matrix(ordinal=i, name=name, out_features=o, in_features=n, basis_digest=plan.model_files[0].sha256)
        for i, (name, o, n) in enumerate(inventory.linears)
    )
    return JobPlan(**{field: getattr(plan, field) for field in plan.__slots__} | {"matrices": matrices})


def random_state(plan: JobPlan, seed: int) -> dict[BlockId, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {block: generator.normal(0, 0.7, shape).astype(np.float32) for block, shape in block_shapes(plan).items()}
