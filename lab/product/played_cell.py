"""Play a cell with the product: one daemon and five agents over mTLS, on the files that the simulator trains on.

What the product draws by itself, bases and the order of examples, differs from run to run. Headquarters holds the
test examples, so the frequencies that a calibrated loss expects are theirs, and not the validation examples'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from coordinator.config import load_config
from coordinator.jobs.jobfile import ExpectedLabels
from coordinator.operator_client import OperatorClient, local_endpoint
from deploy.demo.job import JobSettings
from deploy.demo.plant import Plant, SiteSettings
from deploy.demo.progress import Narrator
from deploy.demo.run import run_job
from deploy.demo.work_orders import SITES, installed_model, write_table
from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.study.cell import Cell
from lab.tasks.work_orders import split_work_orders
from ravan.errors import ConfigError, ErrorReason, StateError
from ravan.wire.v1.operator_service_pb2 import Job

HEADS: Final = 4
_MATRICES: Final = 12
_ROOM_MB: Final = 1200
"""Enough for every head."""
_KNOWN: Final = frozenset({"threshold", "expected_labels"})
"""Options that the job file is given; the others stay as the product has them."""


Done = Callable[[tuple[float, ...]], None]
"""Told the accuracy of each of a run's versions on the test examples."""


def check_playable(cell: Cell) -> None:
    """Raise ConfigError for a run that the product is not set up for here."""
    federation = cell.federation
    wanted = {
        "task = 'work_orders'": cell.task == "work_orders",
        "kind = 'ravan'": cell.method == "ravan",
        "split = 'natural'": federation.split is Split.NATURAL,
        "capacities = 'equal'": federation.capacities is Capacities.EQUAL,
        f"per_round = {len(SITES)}": federation.per_round == len(SITES),
        f"options among {', '.join(sorted(_KNOWN))}": dict(cell.options).keys() <= _KNOWN,
        "threshold = 3": cell.option("threshold", 0) == 3,
    }
    if missing := [name for name, is_so in wanted.items() if not is_so]:
        raise ConfigError(
            f"The product can play a run with {missing[0]} alone.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Name a plan whose first federation and method are so, as in lab/plans/quick.toml.",
        )


def play_with_product(cell: Cell, runs: int, folder: Path, narrator: Narrator, done: Done) -> None:
    """Play runs one after another, and hand on each as it is done; progress goes to the narrator.

    Raise ConfigError as `check_playable` does, StateError when a round is not what the simulator plays.
    """
    check_playable(cell)
    asyncio.run(_play(cell, runs, folder, narrator, done))


def job_settings(cell: Cell, number: int) -> JobSettings:
    """Return the job of a cell."""
    training = cell.training
    return JobSettings(
        name=f"run-{number}",
        rounds=training.rounds,
        heads=HEADS,
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=cell.learning_rate,
        dense_learning_rate=training.dense_learning_rate,
        learning_rate_decay=training.learning_rate_decay,
        lora_rank=training.lora_rank,
        expected_labels=ExpectedLabels(str(cell.option("expected_labels", ExpectedLabels.LOCAL))),
        minimum_sites=len(SITES),
    )


def write_files(folder: Path) -> None:
    """Write each site's training examples, and the test examples as headquarters' held-out file."""
    pool, _, test = split_work_orders()
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "held-out.csv", test)
    for site in SITES:
        write_table(folder / f"site-{site}.csv", [order for order in pool if order.site == site])


async def _play(cell: Cell, runs: int, folder: Path, narrator: Narrator, done: Done) -> None:
    plant = Plant(folder, usual_ports=False)
    try:
        await narrator.during(asyncio.to_thread(_start, plant), "starting a coordinator and the sites")
        async with OperatorClient(local_endpoint(load_config(plant.config), plant.config)) as client:
            await narrator.during(client.add_model(installed_model(), "minilm"), "taking in the base model")
            for number in range(1, runs + 1):
                job = await run_job(job_settings(cell, number), plant, client, (narrator.observe,), narrator)
                narrator.forget_job()
                done(accuracies_of(job))
    finally:
        plant.stop()


def _start(plant: Plant) -> None:
    plant.start_coordinator()
    write_files(plant.folder / "data")
    for name in SITES:
        settings = SiteSettings(name=name, ram_limit_mb=_ROOM_MB)
        plant.enrol(settings, plant.folder / "data" / f"site-{name}.csv")
        plant.start_site(settings)


def accuracies_of(job: Job) -> tuple[float, ...]:
    """Return the accuracy after each round; raise StateError unless every site trained every head in all of them."""
    for done in job.rounds:
        trained = [site.heads for site in done.sites if site.site in done.completed]
        if trained != [HEADS * _MATRICES] * len(SITES):
            raise StateError(
                f"In round {done.number} of {job.name} not all of {len(SITES)} sites trained all heads.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Run it again on a machine that does nothing else and has 8 GB of memory free.",
            )
    return tuple(done.accuracy for done in job.rounds)
