"""PCs that keep a model of a job of any task: base model in the cache, a version on the shelf, no coordinator."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from image_files import plain_image, write_folder
from job_plans import plan_of
from kept_jobs import kept_plan
from task_settings import settings_of
from tiny_jobs import files_of
from tiny_task_models import write_tiny_dinov2, write_tiny_llama, write_tiny_patchtst

from coordinator.evaluation.findings import Evaluation
from coordinator.evaluation.worker import evaluate_state, inspect_model
from edge_agent.config import AgentFile, load_config
from edge_agent.data.batches import deal_batches
from edge_agent.serving.asking import open_predictor, shelf_of
from edge_agent.serving.predictor import Predictor
from edge_agent.training.trainer import TrainingOrder, train
from ravan.adapters.basis import drawn_bases
from ravan.adapters.state import block_shapes, encode_state, initial_state
from ravan.data.examples import read_examples
from ravan.data.source import DataKind, DataSource
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, Matrix, Task
from ravan.tasks.loading import load_task_model
from simulation.tiny_text_model import write_tiny_model

JOB = "excavators"
TEXTS = (
    ("the hose burst", "pump"),
    ("engine not start", "engine"),
    ("leak", "pump"),
    ("the cab door the cab door the cab door", "cab"),
    ("the door", "cab"),
)
LABELS = ("pump", "engine", "cab")

_WRITERS: dict[Task, Callable[[Path], Path]] = {
    Task.SEQUENCE_CLASSIFICATION: write_tiny_model,
    Task.IMAGE_CLASSIFICATION: write_tiny_dinov2,
    Task.SERIES_CLASSIFICATION: write_tiny_patchtst,
    Task.CAUSAL_LM: write_tiny_llama,
}
_TARGETS = {Task.SEQUENCE_CLASSIFICATION: ("query", "value")}
_KINDS = {Task.IMAGE_CLASSIFICATION: DataKind.IMAGES, Task.SERIES_CLASSIFICATION: DataKind.SERIES}


@dataclass(frozen=True)
class KeptSite:
    """A PC, and what only headquarters has: the model's folder and held-out examples."""

    config_path: Path
    plan: JobPlan
    folder: Path
    held_out: DataSource

    @property
    def config(self) -> AgentFile:
        return load_config(self.config_path, {"RAVAN_AGENT_THREADS": "1"})

    def predictor(self) -> Predictor:
        return open_predictor(self.config, shelf_of(self.config).find(JOB))

    def keep(self, seed: int, round_number: int) -> bytes:
        """Put a version on the shelf that is as good as random, and return it."""
        state = random_state(self.plan, seed)
        self.put(state, round_number)
        return state

    def put(self, state: bytes, round_number: int = 1) -> None:
        """Put a version on the shelf."""
        shelf_of(self.config).keep(kept_plan(self.plan), state, round_number=round_number, now=float(round_number))

    def train(self, steps: int, seed: int) -> bytes:
        """Return a version that has learnt the held-out examples."""
        plan = dataclasses.replace(self.plan, training=dataclasses.replace(self.plan.training, steps=steps))
        task = load_task_model(self.folder, plan.training)
        data = task.encode(read_examples(self.held_out, plan.training))
        state = initial_state(plan)
        order = TrainingOrder(
            plan=plan,
            round_number=1,
            state=state,
            trained=frozenset(state),
            bases=drawn_bases(plan.adapter),
            held_examples=len(data),
        )
        batches = deal_batches(data, plan.training.batch_size, seed)
        outcome = train(task, order, lambda _: batches, on_step=lambda _: None, cancelled=threading.Event())
        return encode_state(plan, {block: array + outcome.deltas[block] for block, array in state.items()})

    def evaluate(self, state: bytes, held_out: DataSource | None = None) -> Evaluation:
        """Score a version as headquarters does."""
        return evaluate_state(self.folder, self.plan, state, held_out or self.held_out)


def random_state(plan: JobPlan, seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    shapes = block_shapes(plan)
    return encode_state(
        plan, {block: generator.normal(scale=0.7, size=shape).astype(np.float32) for block, shape in shapes.items()}
    )


def kept_site(root: Path, task: Task) -> KeptSite:
    """Make a PC that has taken part in a job, without a version yet."""
    folder = _WRITERS[task](root / "base")
    found = inspect_model(folder, settings_of(task, window_step=2), _TARGETS.get(task, ("q_proj", "v_proj")))
    plan = dataclasses.replace(
        plan_of(0, heads=2, rank=3, dense=found.dense),
        matrices=tuple(
            Matrix(ordinal=i, name=name, out_features=out, in_features=inputs, basis_digest=_digest(i))
            for i, (name, out, inputs) in enumerate(found.linears)
        ),
        training=found.training,
        model_files=files_of(folder),
    )
    site = root / "site"
    blobs = site / "cache" / "blobs"
    blobs.mkdir(parents=True)
    for file in plan.model_files:
        shutil.copyfile(folder / file.path, blobs / file.sha256.hex())
    held_out = _held_out(root, task)
    kind = _KINDS.get(task, DataKind.TEXTS)
    (site / "agent.toml").write_text(f'[data.orders]\npath = "{held_out.path}"\nkind = "{kind}"\n')
    return KeptSite(site / "agent.toml", plan, folder, held_out)


def write_table(path: Path, rows: tuple[tuple[str, str], ...]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return path


def _held_out(root: Path, task: Task) -> DataSource:
    if task is Task.IMAGE_CLASSIFICATION:
        images = {f"{label}/{i}.png": plain_image((40 * i, 200 - 9 * i, 7)) for i, label in enumerate(LABELS * 2)}
        return DataSource(path=write_folder(root / "images", images), name="held-out images")
    if task is Task.SERIES_CLASSIFICATION:
        values = np.random.default_rng(5).normal(size=(19, 2))
        lines = [f"{oil:.3f},{rpm:.3f},{LABELS[i % 3]}\n" for i, (oil, rpm) in enumerate(values)]
        path = root / "held-out.csv"
        path.write_text("oil,rpm,label\n" + "".join(lines))
        return DataSource(path=path, name="held-out.csv")
    return DataSource(path=write_table(root / "held-out.csv", TEXTS), name="held-out.csv")


def _digest(ordinal: int) -> Digest:
    return Digest(ordinal.to_bytes(32, "big"))
