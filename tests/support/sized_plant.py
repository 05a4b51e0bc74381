"""A plant of many real agents on a small model whose memory tells three classes of PCs apart."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from typing import Final

from tiny_fleet import job_text
from tiny_jobs import ROWS, write_rows

from coordinator.allocation.policy import MEMORY_MARGIN
from coordinator.operator_client import OperatorClient
from deploy.demo.plant import Plant, SiteSettings, set_key
from ravan.wire.v1.operator_service_pb2 import Job
from ravan.wire.v1.round_pb2 import JobState
from simulation.tiny_text_model import write_tiny_model

MODEL: Final = "sized"
CLASSES: Final = (None, 9.5, 4.5)
"""Matrices of 16 that a site's limit has room for, by its number modulo three; None: there is no limit."""
SLOW: Final = "s04"
"""Site on a thin line, with memory for everything, so that its upload takes seconds."""

_CAGE_MB: Final = 4096
"""Nobody meets it: the limits that tell the classes apart are the agents' own."""
_SLOW_KIB_PER_S: Final = 16
_POLL_S: Final = 0.2
_TIMEOUT_S: Final = 300
_ENDED: Final = (JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_STOPPED, JobState.JOB_STATE_FAILED)


def site_names(count: int) -> list[str]:
    """Return the first names."""
    return [f"s{number:02}" for number in range(1, count + 1)]


class SizedPlant:
    """Enrol sites, size them by what the first one measures, submit jobs."""

    def __init__(self, plant: Plant, client: OperatorClient) -> None:
        self.plant = plant
        self.client = client
        self._costs: tuple[float, float] | None = None

    async def add_model(self) -> None:
        """Take in a model of many thin layers, so that memory grows in small even steps."""
        folder = write_tiny_model(self.plant.folder / "model", hidden=64, layers=8, positions=128)
        await self.client.add_model(folder, MODEL)

    async def submit(self, **changes: object) -> Job:
        """Submit a job of the tiny job's file with these changes."""
        write_rows(self.plant.folder / "held-out.csv")
        settings: dict[str, object] = {
            "model__name": MODEL,
            "adapter__heads": 2,
            "adapter__rank": 32,
            "training__data": "work-orders",
            "training__max_length": 128,
            "training__batch_size": 32,
            "training__steps": 40,
            "training__learning_rate": 0.002,
            "round__training_deadline_s": 1200.0,
            "round__phase_deadline_s": 120.0,
        }
        path = self.plant.folder / "job.toml"
        path.write_text(job_text(**settings | changes), encoding="utf-8")
        submitted = await self.client.submit_job(path)
        return await self.client.get_job(submitted.job_id)

    async def enrol(self, names: Sequence[str]) -> None:
        """Enrol sites, each with its own amount of data."""
        lines = asyncio.Semaphore(2)

        async def enrol_one(name: str) -> None:
            # Unequal amounts of data give unequal weights where a job weights its sites.
            data = write_rows(self.plant.folder / f"{name}.csv", ROWS * (1 + int(name[1:]) % 3), label="subsystem")
            async with lines:
                await asyncio.to_thread(self.plant.enrol, _settings(name), data)

        await asyncio.gather(*map(enrol_one, names))

    async def start(self, names: Sequence[str]) -> None:
        """Start sites; the limits of the others follow from what the first without a limit have measured."""
        unlimited = [name for name in names if CLASSES[_class_of(name)] is None]
        for name in unlimited:
            self.plant.start_site(_settings(name))
        if self._costs is None:
            self._costs = await self._measured_by(unlimited)
        base, further = self._costs
        for name in names:
            matrices = CLASSES[_class_of(name)]
            if matrices is not None:
                config = self.plant.site_folder(name) / "agent.toml"
                limit_mb = int((base + further * matrices) * MEMORY_MARGIN) >> 20
                config.write_text(
                    set_key(config.read_text(encoding="utf-8"), "ram_limit_mb", limit_mb), encoding="utf-8"
                )
                self.plant.start_site(_settings(name))

    async def await_end(self, job: Job) -> Job:
        """Wait until a job has completed."""
        for _ in range(int(_TIMEOUT_S / _POLL_S)):
            now = await self.client.get_job(job.job_id)
            if now.state in _ENDED:
                assert now.state == JobState.JOB_STATE_COMPLETED, now.message
                return now
            await asyncio.sleep(_POLL_S)
        raise AssertionError(f"job {job.name} did not end: {now.message}")

    async def _measured_by(self, names: Sequence[str]) -> tuple[float, float]:
        """Return the median peak with no head and the median of what a matrix adds, in bytes."""
        folders = [self.plant.site_folder(name) / "state" / "profiles" for name in names]
        for _ in range(int(_TIMEOUT_S / _POLL_S)):
            found = [path for folder in folders for path in folder.glob("*.json")]
            if len(found) == len(names):
                profiles = [json.loads(path.read_text(encoding="utf-8"))["profile"] for path in found]
                bases = [each["ram_loaded_bytes"] + each["ram_floor_bytes"] for each in profiles]
                return statistics.median(bases), statistics.median(each["ram_per_matrix_bytes"] for each in profiles)
            await asyncio.sleep(_POLL_S)
        raise AssertionError(f"not all of {names} measured the job")


def _class_of(name: str) -> int:
    return (int(name[1:]) - 1) % len(CLASSES)


def _settings(name: str) -> SiteSettings:
    slow = _SLOW_KIB_PER_S if name == SLOW else 0
    return SiteSettings(name=name, ram_limit_mb=_CAGE_MB, upload_kib_per_s=slow)
