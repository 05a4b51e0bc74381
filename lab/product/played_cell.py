"""Play a cell with the product: one daemon and five agents over mTLS, on the files that the simulator trains on.

What the product draws by itself, bases and the order of examples, differs from run to run. Headquarters holds the
validation examples, as the simulator does; its versions are fetched and scored on the test examples here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from coordinator.config import load_config
from coordinator.evaluation.worker import evaluate_state
from coordinator.jobs.jobfile import ExpectedLabels, held_out_source, read_job_file
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
from ravan.codec.plans import decode_plan
from ravan.errors import ConfigError, ErrorReason, StateError
from ravan.manifest.plan import BasisKind
from ravan.wire.v1.operator_service_pb2 import Job

HEADS: Final = 4
_MATRICES: Final = 12
_ROOM_MB: Final = 1200
"""Enough for every head."""
_KNOWN: Final = frozenset({"threshold", "expected_labels", "basis"})
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
        basis=BasisKind(str(cell.option("basis", BasisKind.GRAM_SCHMIDT))),
        minimum_sites=len(SITES),
    )


def write_files(folder: Path) -> None:
    """Write each site's training examples, the validation examples as headquarters' file, and the test examples."""
    pool, validation, test = split_work_orders()
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "held-out.csv", validation)
    write_table(folder / "test.csv", test)
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
                check_rounds(job)
                judging = judge_versions(client, job, plant.folder / "data" / "test.csv")
                done(await narrator.during(judging, "scoring its versions on the test examples"))
    finally:
        plant.stop()


def _start(plant: Plant) -> None:
    plant.start_coordinator()
    write_files(plant.folder / "data")
    for name in SITES:
        settings = SiteSettings(name=name, ram_limit_mb=_ROOM_MB)
        plant.enrol(settings, plant.folder / "data" / f"site-{name}.csv")
        plant.start_site(settings)


def check_rounds(job: Job) -> None:
    """Raise StateError unless every site trained every head in all rounds."""
    for done in job.rounds:
        trained = [site.heads for site in done.sites if site.site in done.completed]
        if trained != [HEADS * _MATRICES] * len(SITES):
            raise StateError(
                f"In round {done.number} of {job.name} not all of {len(SITES)} sites trained all heads.",
                reason=ErrorReason.WRONG_STATE,
                next_step="Run it again on a machine that does nothing else and has 8 GB of memory free.",
            )


async def judge_versions(client: OperatorClient, job: Job, test: Path) -> tuple[float, ...]:
    """Fetch the version of each round, and return their accuracies on the test examples."""
    plan = decode_plan(job.plan.payload)
    source = held_out_source(read_job_file(job.job_toml, source=job.name), test)
    fetched = test.parent / job.name
    fetched.mkdir()
    directions = fetched / "directions" if plan.directions else None
    if directions is not None:
        await client.download_blob(plan.directions, directions)
    accuracies = []
    for done in job.rounds:
        path = fetched / f"{done.number}.safetensors"
        await client.download_blob(done.state_digest, path)
        found = await asyncio.to_thread(evaluate_state, installed_model(), plan, path.read_bytes(), source, directions)
        accuracies.append(found.accuracy)
    return tuple(accuracies)
