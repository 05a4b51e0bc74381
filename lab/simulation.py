"""Play one cell: a federation in this process, round after round; whatever is Ravan's is the product's own code."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from lab.federation.capacity import deal_capacities
from lab.federation.partition import LEAST_EXAMPLES, Split, deal_by_dirichlet, deal_evenly, deal_natural
from lab.federation.schedule import Purpose, Schedule, generator_for
from lab.federation.shard import Rows
from lab.methods.method import Bench, Method
from lab.methods.registry import METHODS
from lab.study.cell import Cell, Part
from lab.tasks.task import LabTask
from ravan.errors import ConfigError, DataError, ErrorReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How good the shared model was after a round."""

    round_number: int
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a cell."""

    key: str
    accuracy: float
    """Mean over the last rounds, as many as the cell averages."""
    loss: float
    curve: tuple[Point, ...]
    uploaded: int
    """Bytes of all clients in all rounds, preparation included."""
    downloaded: int
    seconds: float
    """Of one processor core."""
    diverged: bool = False
    """Whether a loss or gradient was not finite; such a run has the accuracy 0."""


def play_cell(cell: Cell, lab: LabTask) -> Outcome:
    """Train and score; equal cells give equal outcomes on one machine with one thread.

    Raise ConfigError as `begin` does.
    """
    started = time.process_time()
    method = begin(cell, lab)
    try:
        with long_lived_objects_set_aside():
            curve, diverged = _play_rounds(cell, method), False
    except DataError:
        curve, diverged = (), True
    return Outcome(
        key=cell.key,
        accuracy=_mean([point.accuracy for point in curve]),
        loss=_mean([point.loss for point in curve]),
        curve=curve,
        uploaded=method.ledger.uploaded,
        downloaded=method.ledger.downloaded,
        seconds=time.process_time() - started,
        diverged=diverged,
    )


def _play_rounds(cell: Cell, method: Method) -> tuple[Point, ...]:
    lab, training, curve = method.bench.lab, cell.training, []
    examples = lab.test if cell.part is Part.TEST else lab.validation
    for number in range(1, training.rounds + 1):
        method.play(number, method.cohort(number))
        if number > training.rounds - training.average_last:
            score = method.evaluate(examples)
            curve.append(Point(round_number=number, accuracy=score.accuracy, loss=score.loss))
    return tuple(curve)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def begin(cell: Cell, lab: LabTask) -> Method:
    """Return the cell's method in its first state; raise ConfigError for a federation or options that cannot be."""
    try:
        return METHODS[cell.method](build_bench(cell, lab))
    except ValueError as error:
        raise ConfigError(
            f"{cell.method} cannot be played as the plan says: {error}.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Correct its options.",
        ) from error


@contextmanager
def long_lived_objects_set_aside() -> Iterator[None]:
    """Keep the garbage collector from going through all libraries, as the agent's training has it do every time."""
    if gc.get_freeze_count():  # by whoever called
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def build_bench(cell: Cell, lab: LabTask) -> Bench:
    """Deal examples and capacities; they follow from the seed and the federation alone, not from the method.

    Raise ConfigError for a federation that the task's examples cannot be dealt to.
    """
    federation, training = cell.federation, cell.training
    rows = _deal(cell, lab)
    if len(rows) != federation.clients:
        raise ConfigError(
            f"The {federation.split} split of {lab.name} has {len(rows)} clients, not {federation.clients}.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step=f"Set clients = {len(rows)} there.",
        )
    if min(map(len, rows)) < LEAST_EXAMPLES:
        raise ConfigError(
            f"A client of the {federation.split} split of {lab.name} has fewer than {LEAST_EXAMPLES} examples.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Take fewer clients.",
        )
    return Bench(
        lab=lab,
        cell=cell,
        schedule=Schedule(seed=cell.seed, clients=federation.clients, per_round=federation.per_round),
        shards=tuple(lab.shard(part) for part in rows),
        capacities=deal_capacities(
            federation.capacities, federation.clients, generator_for(cell.seed, Purpose.CAPACITY)
        ),
        settings=replace(
            lab.task.training,
            steps=training.steps,
            batch_size=training.batch_size,
            learning_rate=cell.learning_rate,
            dense_learning_rate=training.dense_learning_rate,
            learning_rate_decay=training.learning_rate_decay,
        ),
    )


def use_one_thread() -> None:
    """Have one cell take one core, so that as many run side by side as there are cores."""
    torch.set_num_threads(1)


def _deal(cell: Cell, lab: LabTask) -> list[Rows]:
    federation, generator = cell.federation, generator_for(cell.seed, Purpose.PARTITION)
    if federation.split is Split.NATURAL:
        return deal_natural(lab.owners)
    if federation.split is Split.DIRICHLET:
        return deal_by_dirichlet(lab.labels, federation.clients, federation.alpha, generator)
    if federation.split is Split.IID:
        return deal_evenly(len(lab.labels), federation.clients, generator)
    return [np.arange(len(lab.labels))]
