"""What the worker keeps between orders: one model, and the data of the jobs that are prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from edge_agent.config import AgentFile
from edge_agent.data.site_data import SiteExamples, has_changed, read_site_data
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import release_unused
from edge_agent.host.gate import TrainingGate
from ravan.adapters.planned_bases import BasisFiles
from ravan.data.stamp import Stamp
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan

if TYPE_CHECKING:
    from edge_agent.training.base_model import ModelSlot
    from ravan.tasks.task_model import EncodedExamples, TaskModel

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFiles:
    """A job, and where what was fetched for it lies."""

    plan: JobPlan
    digest: Digest
    """Of the plan."""
    folder: Path
    """The base model's files."""
    bases: BasisFiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldData:
    """A job's examples in memory."""

    encoded: EncodedExamples = field(repr=False)
    stamp: Stamp
    """Of the source that they came from."""


class Bench:
    """Where orders are carried out, one after the other; every method blocks."""

    def __init__(self, config: AgentFile, threads: int, limits: LimitReader) -> None:
        """Take the site's configuration, the threads to train with, and the limits of the agent's memory."""
        self.config = config
        self.limits = limits
        self.gate = TrainingGate()
        """What training passes at every layer."""
        self._threads = threads
        self._slot: ModelSlot | None = None
        self._model_of: Digest | None = None
        """The plan that the model in memory was last used for."""
        self._read: tuple[Digest, SiteExamples] | None = None
        """What was read for a job whose model is not here yet."""
        self._data: dict[Digest, HeldData] = {}

    @property
    def holds_model(self) -> bool:
        """Tell whether a model is in memory."""
        return self._slot is not None and self._slot.loaded

    def read_data(self, plan: JobPlan, digest: Digest) -> None:
        """Read a job's examples, before its model is at hand; raise DataError."""
        self._data.pop(digest, None)
        found = read_site_data(self.config, plan.training)
        self._read = digest, found
        log.info("data read", job=plan.job_name, **_counts(found))

    def load_libraries(self) -> None:
        """Import what a model takes, which is as large as a small one."""
        import torch  # noqa: PLC0415 - slow to import, and the agent's own process never needs it

        torch.set_num_threads(self._threads)

    def model_of(self, job: JobFiles) -> TaskModel[Any]:
        """Return the job's model, loaded if another one was used meanwhile; raise ModelError or ConfigError."""
        self.load_libraries()
        from edge_agent.training.base_model import ModelSlot  # noqa: PLC0415 - imports torch

        self._slot, self._model_of = self._slot or ModelSlot(), job.digest
        return self._slot.load(job.folder, job.plan)

    def data_of(self, job: JobFiles, check: Callable[[], None]) -> HeldData:
        """Return the job's examples as they were last read, or read now if they never were; raise DataError.

        What `check` raises between two pieces of that goes through.
        """
        held = self._data.get(job.digest)
        return held if held is not None else self._take_in(job, self._found(job), check)

    def refresh(self, job: JobFiles, check: Callable[[], None]) -> HeldData:
        """Return the job's examples, read again if they have changed; raise DataError, or what `check` raises."""
        held = self._data.get(job.digest)
        if held is None or not has_changed(self.config, job.plan.training, held.stamp):
            return self.data_of(job, check)
        check()
        found = read_site_data(self.config, job.plan.training)
        log.info("data read again", job=job.plan.job_name, **_counts(found))
        return self._take_in(job, found, check)

    def forget(self, digest: Digest) -> None:
        """Drop a job's data, and its model where that is the one in memory."""
        self._data.pop(digest, None)
        if self._read is not None and self._read[0] == digest:
            self._read = None
        if self._model_of == digest:
            self.drop_model()

    def drop_model(self) -> None:
        """Give the model's memory back; whoever needs the model loads it again."""
        self._model_of = None
        if self._slot is not None:
            self._slot.drop()

    def _found(self, job: JobFiles) -> SiteExamples:
        read, self._read = self._read, None
        if read is not None and read[0] == job.digest:
            return read[1]
        return read_site_data(self.config, job.plan.training)

    def _take_in(self, job: JobFiles, found: SiteExamples, check: Callable[[], None]) -> HeldData:
        check()
        model = self.model_of(job)
        check()
        held = HeldData(encoded=model.encode(found.examples), stamp=found.stamp)
        self._data[job.digest] = held
        release_unused()
        return held


def _counts(found: SiteExamples) -> dict[str, int]:
    return {
        "examples": len(found.examples),
        "left_out": found.examples.left_out,
        "duplicates": found.duplicates,
        "kept_back": found.kept_back,
    }
