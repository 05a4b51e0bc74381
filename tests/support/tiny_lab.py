"""A task of the laboratory on the tiny BERT, and benches of it: a cell takes a fraction of a second."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.federation.partition import Split
from lab.methods.method import Bench, Client, Method
from lab.methods.registry import METHODS
from lab.simulation import build_bench
from lab.study.cell import Cell, Federation, Option, Part, Training
from lab.tasks.settings import classification
from lab.tasks.task import LabTask
from ravan.data.texts import TextExamples
from ravan.manifest.plan import Task
from ravan.tasks.loading import load_task_model
from simulation.tiny_text_model import WORDS, write_tiny_model

LABELS = ("pump", "engine", "cab")
HIDDEN = 16
TARGETS = ("query", "value")
MATRICES = tuple(f"bert.encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in TARGETS)
"""What is adapted, bottom to top; each is HIDDEN x HIDDEN."""
DENSE_NUMBERS = 3 * HIDDEN + 3
"""Of the classifier."""

TRAINING = Training(
    rounds=2,
    steps=2,
    batch_size=4,
    dense_learning_rate=0.02,
    learning_rate_decay=1.0,
    lora_rank=2,
    average_last=1,
)
FEDERATION = Federation(split=Split.IID, clients=3, per_round=3)
CELL = Cell(
    task="tiny",
    federation=FEDERATION,
    training=TRAINING,
    method="ravan",
    options=(),
    learning_rate=0.05,
    seed=1,
    part=Part.TEST,
)


@lru_cache(maxsize=1)
def tiny_task() -> LabTask:
    """72 texts of three classes in the pool, of four owners; loaded once a process."""
    with tempfile.TemporaryDirectory() as folder:
        settings = classification(Task.SEQUENCE_CLASSIFICATION, LABELS, max_length=8)
        task = load_task_model(write_tiny_model(Path(folder) / "model"), settings)
        # The agent's training collects garbage each time; without this it goes through all libraries.
        gc.freeze()
        pool, validation, test = _texts(72, seed=1), _texts(12, seed=2), _texts(18, seed=3)
        return LabTask(
            name="tiny",
            task=task,
            pool=task.encode(pool),
            owners=np.arange(72) % 4,
            labels=np.asarray(pool.label_ids, np.int64),
            validation=task.encode(validation),
            test=task.encode(test),
            targets=TARGETS,
        )


def _texts(count: int, seed: int) -> TextExamples:
    generator = np.random.default_rng(seed)
    labels = tuple(i % 3 for i in range(count))
    texts = tuple(" ".join((LABELS[label], *generator.choice(WORDS, generator.integers(1, 4)))) for label in labels)
    return TextExamples(texts=texts, label_ids=labels, left_out=0)


def cell_of(method: str = "ravan", *, federation: dict[str, Any] | None = None, **changes: Any) -> Cell:
    """Return the tiny cell with changes: fields of a cell or of its training, `federation`'s, and options by name."""
    training = {name: changes.pop(name) for name in list(changes) if name in Training.__slots__}
    fields = {name: changes.pop(name) for name in list(changes) if name in Cell.__slots__}
    options: tuple[tuple[str, Option], ...] = tuple(sorted(changes.items()))
    return replace(
        CELL,
        method=method,
        options=options,
        training=replace(TRAINING, **training),
        federation=replace(FEDERATION, **(federation or {})),
        **fields,
    )


def bench_of(method: str = "ravan", **changes: Any) -> Bench:
    return build_bench(cell_of(method, **changes), tiny_task())


def method_of(name: str, **changes: Any) -> Method:
    return METHODS[name](bench_of(name, **changes))


def cohort_of(bench: Bench, round_number: int = 1) -> list[Client]:
    return [bench.client(index, round_number) for index in bench.schedule.cohort(round_number)]


def weights_now() -> dict[str, Tensor]:
    """Return a copy of all parameters of the base model, the classifier left out, which every method overwrites."""
    task = tiny_task().task
    new = {name for name, _ in task.new_parameters}
    return {name: p.detach().clone() for name, p in task.model.named_parameters() if name not in new}


def weight_in_model(name: str) -> NDArray[np.float64]:
    """Return a copy of what a layer multiplies with now, without heads or factors that run beside it."""
    weight = tiny_task().task.model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach().double().numpy()


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
