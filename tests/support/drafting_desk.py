"""A headquarters that drafts jobs: one tiny real model, a held-out file, entropy that is the same in every run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from memory_blobs import FolderBlobs

from coordinator.evaluation.findings import AlignedBases, Inventory
from coordinator.evaluation.folders import materialise_model
from coordinator.evaluation.worker import inspect_model, write_directions
from coordinator.jobs.jobfile import read_job_file
from coordinator.jobs.models import record_model
from coordinator.jobs.submission import DraftedJob, draft_job
from ravan.data.source import DataSource
from ravan.errors import ErrorReason, RavanError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, ModelFile, Precision, TrainingSettings
from simulation.tiny_text_model import write_tiny_model


@dataclass
class HereInspector:
    """Looks into models in this process."""

    blobs: FolderBlobs
    work_dir: Path

    async def inspect(
        self, files: Sequence[ModelFile], training: TrainingSettings, targets: tuple[str, ...], precision: Precision
    ) -> Inventory:
        return inspect_model(materialise_model(files, self.blobs, self.work_dir), training, targets, precision)

    async def align(self, plan: JobPlan, held_out: DataSource) -> AlignedBases:
        folder = materialise_model(plan.model_files, self.blobs, self.work_dir)
        path, found = write_directions(folder, plan, held_out, self.work_dir)
        self.blobs.adopt(path, found.directions)
        return found


@dataclass
class FixedInspector:
    """Claims to have looked, and to have found these linear layers."""

    linears: tuple[tuple[str, int, int], ...]

    async def inspect(
        self, files: Sequence[ModelFile], training: TrainingSettings, targets: tuple[str, ...], precision: Precision
    ) -> Inventory:
        linears = self.linears if targets else ()
        return Inventory(linears=linears, dense=(), parameters=1, model_type="bert", training=training)

    async def align(self, plan: JobPlan, held_out: DataSource) -> AlignedBases:
        bases = tuple(Digest(bytes([matrix.ordinal % 256]) * 32) for matrix in plan.matrices)
        return AlignedBases(directions=Digest(bytes(range(32))), bases=bases)


class Counter:
    """Entropy that never repeats and is the same in every run."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, length: int) -> bytes:
        self.calls += 1
        return bytes([self.calls]) * length


@dataclass
class Desk:
    """A headquarters with one tiny model and a held-out file."""

    folder: Path

    def __post_init__(self) -> None:
        self.blobs = FolderBlobs(self.folder / "blobs")
        self.take_model(write_tiny_model(self.folder / "model"))
        self.inspector = HereInspector(self.blobs, self.folder / "work")
        self.write_held_out("text,label\nthe hose,pump\n,cab\nengine,engine\n")

    def take_model(self, folder: Path) -> None:
        files = [
            ModelFile(path=p.name, sha256=self.blobs.put(p.read_bytes()), size_bytes=p.stat().st_size)
            for p in folder.iterdir()
        ]
        self.model = record_model("minilm", files, self.blobs, 1.0)

    def write_held_out(self, content: str) -> None:
        (self.folder / "f00d").write_text(content)

    def draft(
        self,
        *,
        inspector: HereInspector | FixedInspector | None = None,
        fleet_size: int = 5,
        **tables: dict[str, object],
    ) -> DraftedJob:
        job = read_job_file(job_text(**tables), source="job.toml")
        table = job.evaluation
        held_out = DataSource(
            path=self.folder / "f00d",
            name="held-out.csv",
            format=table.format,
            text=table.text,
            label=table.label,
            group=table.group,
            columns=table.columns,
        )
        drafting = draft_job(
            job,
            model=self.model,
            held_out=held_out,
            fleet_size=fleet_size,
            inspector=inspector or self.inspector,
            entropy=Counter(),
        )
        return asyncio.run(drafting)

    def refusal(self, kind: type[RavanError], reason: ErrorReason, **changes: object) -> RavanError:
        with pytest.raises(kind) as caught:
            self.draft(**changes)  # type: ignore[arg-type]
        assert caught.value.reason is reason
        assert caught.value.next_step
        return caught.value


def job_text(**changes: dict[str, object]) -> str:
    tables: dict[str, dict[str, object]] = {
        "job": {"name": "orders", "rounds": 3},
        "model": {"name": "minilm"},
        "adapter": {"heads": 2, "rank": 3},
        "training": {
            "data": "orders",
            "labels": ["engine", "pump", "cab"],
            "max_length": 16,
            "learning_rate": 0.01,
            "dense_learning_rate": 0.001,
        },
        "round": {},
        "secure_aggregation": {"bundle_threshold": 3},
        "evaluation": {"data": "files/held-out.csv"},
    }
    for name, change in changes.items():
        tables[name] = tables[name] | change
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def toml_value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)
