"""What every method is: it plays rounds with cohorts, and puts the model into the state that it has reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch

from coordinator.jobs.expectation import expected_frequencies
from coordinator.jobs.jobfile import ExpectedLabels
from edge_agent.data.batches import deal_batches
from edge_agent.training.trainer import make_optimiser, take_step
from lab.federation.schedule import Purpose, Schedule, generator_for
from lab.federation.shard import Shard
from lab.methods.proximal import ProximalTask
from lab.methods.traffic import Ledger
from lab.study.cell import Cell
from lab.tasks.kept_layers import KeptLayersTask
from lab.tasks.task import LabTask
from ravan.adapters.model import TrainedParameters
from ravan.manifest.plan import TrainingSettings
from ravan.tasks.calibration import calibrate
from ravan.tasks.passes import Score, measure
from ravan.tasks.task_model import EncodedExamples, TaskModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Client:
    """One client in one round."""

    index: int
    shard: Shard
    capacity: float
    """Share of the adapter that it can train, up to 1."""
    batch_seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """What a method works with: one run's task, clients and settings."""

    lab: LabTask
    cell: Cell
    schedule: Schedule
    shards: tuple[Shard, ...]
    capacities: tuple[float, ...]
    settings: TrainingSettings
    """The product's training settings, as the run has them."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Which layers are adapted: the task's own, unless the run says otherwise.

        Raise ValueError where it does and outputs of layers are kept, which nothing may train.
        """
        named = str(self.cell.option("targets", ""))
        if named and isinstance(self.lab.task, KeptLayersTask):
            raise ValueError(f"the targets of {self.lab.name} are fixed")
        return tuple(named.split(",")) if named else self.lab.targets

    @property
    def adapter_seed(self) -> bytes:
        """32 bytes, equal for all methods of a seed: all first weights follow from them."""
        return generator_for(self.cell.seed, Purpose.ADAPTER).bytes(32)

    @property
    def weakest(self) -> float:
        """The least capacity of the fleet, which bounds methods that know one size alone."""
        return min(self.capacities)

    def client(self, index: int, round_number: int) -> Client:
        """Return a client as it is in a round."""
        return Client(
            index=index,
            shard=self.shards[index],
            capacity=self.capacities[index],
            batch_seed=self.schedule.batch_seed(index, round_number),
        )

    def task_of(self, task: TaskModel[Any], client: Client) -> TaskModel[Any]:
        """Return the task with the loss that a client trains by in a round: its own, unless the run says otherwise."""
        expected = expected_frequencies(
            ExpectedLabels(str(self.cell.option("expected_labels", ExpectedLabels.LOCAL))),
            self.lab.validation.label_ids,
            len(self.settings.labels),
        )
        calibrated = calibrate(task, client.shard, expected)
        mu = float(self.cell.option("proximal", 0.0))
        return ProximalTask(calibrated, mu) if mu else calibrated

    def train_locally(
        self, task: TaskModel[Any], parameters: TrainedParameters, client: Client, round_number: int
    ) -> None:
        """Do a round's steps on a client's batches with the product's own optimiser and step."""
        settings = self.settings
        optimiser = make_optimiser(parameters, settings, round_number)
        batches = deal_batches(client.shard, settings.batch_size, client.batch_seed)
        calibrated = self.task_of(task, client)
        for batch in islice(batches, settings.steps):
            take_step(calibrated, optimiser, batch)


class Method(ABC):
    """One way to train together."""

    options: ClassVar[frozenset[str]] = frozenset({"targets", "expected_labels", "proximal", "averaged"})
    """What a plan may tell this method; anything else is refused, lest a misspelt option goes unnoticed."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ledger = Ledger()
        self.averaged = int(bench.cell.option("averaged", 1))
        """Of how many last states the mean is scored, weight by weight; clients go on from the last one alone."""

    @property
    def task(self) -> TaskModel[Any]:
        """What is trained and scored."""
        return self.bench.lab.task

    def cohort(self, round_number: int) -> list[Client]:
        """Return who takes part in a round: those whom the schedule draws."""
        return [self.bench.client(index, round_number) for index in self.bench.schedule.cohort(round_number)]

    @abstractmethod
    def play(self, round_number: int, cohort: Sequence[Client]) -> None:
        """Let a cohort train from the present state, and take the next one from what it sends."""

    @abstractmethod
    def installed(self) -> AbstractContextManager[None]:
        """Put the model into the present state for as long as the context lasts."""

    def evaluate(self, data: EncodedExamples) -> Score:
        """Score the present state."""
        with self.installed(), torch.inference_mode():
            return measure(self.task, data)
