"""A plant of many real agents on a small model whose memory tells three classes of PCs apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from tiny_fleet import job_text
from tiny_jobs import ROWS, write_rows
from tiny_text_model import write_tiny_model

from coordinator.allocation.policy import MEMORY_MARGIN
from coordinator.operator_client import OperatorClient
from deploy.demo.plant import Plant, SiteSettings, set_key
from ravan.wire.v1.operator_service_pb2 import Job
from ravan.wire.v1.round_pb2 import JobState

MODEL: Final = "sized"
CLASSES: Final = (None, 3.5, 1.5)
"""Matrices that a site's limit has room for, by its number modulo three; None: there is no limit."""
SLOW: Final = "s04"
"""Site on a thin line, with memory for everything, so that its upload takes seconds."""

_CAGE_MB: Final = 4096
"""Nobody meets it: the limits that tell the classes apart are the agents' own."""
_SLOW_KIB_PER_S: Final = 10
_POLL_S: Final = 0.2
_TIMEOUT_S: Final = 240
_ENDED: Final = (JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_STOPPED, JobState.JOB_STATE_FAILED)


def site_names(count: int) -> list[str]:
    """Return the first names."""
    return [f"s{number:02}" for number in range(1, count + 1)]


class SizedPlant:
    """Enrol sites, size them by what the first one measures, submit jobs."""

    def __init__(self, plant: Plant, client: OperatorClient) -> None:
        self.plant = plant
        self.client = client

    async def add_model(self) -> None:
        """Take in a model of three layers that reads long texts, so that a layer's activations weigh."""
        folder = write_tiny_model(self.plant.folder / "model", hidden=128, layers=3, positions=256)
        await self.client.add_model(folder, MODEL)

    async def submit(self, **changes: object) -> Job:
        """Submit a job of the tiny job's file with these changes."""
        write_rows(self.plant.folder / "held-out.csv")
        settings: dict[str, object] = {
            "model__name": MODEL,
            "adapter__heads": 4,
            "adapter__rank": 32,
            "training__data": "work-orders",
            "training__max_length": 256,
            "training__batch_size": 16,
            "training__steps": 60,
            "training__learning_rate": 0.002,
            "round__training_deadline_s": 240.0,
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
        """Start sites, those of limited memory with limits that follow from what the first site measures."""
        for name in names:
            share = CLASSES[_class_of(name)]
            if share is not None:
                config = self.plant.site_folder(name) / "agent.toml"
                text = set_key(config.read_text(encoding="utf-8"), "ram_limit_mb", await self._limit_mb(share))
                config.write_text(text, encoding="utf-8")
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

    async def _limit_mb(self, matrices: float) -> int:
        """Return the limit with room for so many matrices, as an operator would after reading the first site's log."""
        folder = self.plant.site_folder(site_names(1)[0]) / "state" / "profiles"
        for _ in range(int(_TIMEOUT_S / _POLL_S)):
            if found := sorted(folder.glob("*.json")):
                profile = json.loads(found[0].read_text(encoding="utf-8"))["profile"]
                further = int(profile["ram_per_matrix_bytes"])
                assert further >> 20 >= 5, f"a matrix takes {further >> 10} KiB; that tells no PCs apart"
                peak = profile["ram_loaded_bytes"] + profile["ram_floor_bytes"] + further * matrices
                return int(peak * MEMORY_MARGIN) >> 20
            await asyncio.sleep(_POLL_S)
        raise AssertionError("the first site never measured the job")


def _class_of(name: str) -> int:
    return (int(name[1:]) - 1) % len(CLASSES)


def _settings(name: str) -> SiteSettings:
    slow = _SLOW_KIB_PER_S if name == SLOW else 0
    return SiteSettings(name=name, ram_limit_mb=_CAGE_MB, upload_kib_per_s=slow)
