"""What the worker is asked to do. Each order may be carried out twice with the same result: a worker may die."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from edge_agent.hardware.memory import resident_bytes
from edge_agent.training.outcome import TrainingCancelledError, TrainingCost
from edge_agent.worker.bench import Bench, JobFiles
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an order is."""

    done: int
    total: int
    step: str = ""
    """For the line that a person follows."""
    cost: TrainingCost | None = None
    """What training took so far."""


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How an order is heard and called off while it is carried out."""

    tell: Tell
    cancelled: threading.Event

    def check(self) -> None:
        """Raise TrainingCancelledError where the order was called off."""
        if self.cancelled.is_set():
            raise TrainingCancelledError


class Order(ABC, Generic[Answer]):
    """One piece of work."""

    @abstractmethod
    def carry_out(self, bench: Bench, call: Call) -> Answer:
        """Do it and return the answer; what is raised reaches whoever asked. Blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadData(Order[None]):
    """Read a job's examples before anything is fetched for it."""

    plan: JobPlan
    digest: Digest

    def carry_out(self, bench: Bench, call: Call) -> None:
        """Raise DataError for whatever is wrong with them."""
        del call
        bench.read_data(self.plan, self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindDifferingBases(Order[tuple[int, ...]]):
    """Draw a job's bases; the answer is the ordinals of matrices whose bases come out otherwise here."""

    plan: JobPlan
    directions: Path | None = None
    """What they lead with, where the plan names such a file."""

    def carry_out(self, bench: Bench, call: Call) -> tuple[int, ...]:
        """Draw them one at a time."""
        from ravan.adapters.planned_bases import differing_matrices  # noqa: PLC0415 - not needed before a job comes

        del bench, call
        return tuple(matrix.ordinal for matrix in differing_matrices(self.plan, self.directions))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureJob(Order[JobProfile]):
    """Load a job's model and data; the answer is what training costs here."""

    job: JobFiles
    known: JobProfile | None
    """What was measured before, and is not measured again."""

    def carry_out(self, bench: Bench, call: Call) -> JobProfile:
        """Raise ResourceError (MEMORY_LIMIT), ModelError, ConfigError, DataError or TrainingCancelledError."""
        self._check_room(bench)
        task, held = bench.model_of(self.job), bench.data_of(self.job, call.check)
        if self.known is not None:
            return self.known
        from edge_agent.hardware.measurement import measure_job  # noqa: PLC0415 - imports torch
        from ravan.adapters.planned_bases import planned_bases  # noqa: PLC0415 - not needed before a job comes

        plan, beside = self.job.plan, bench.limits.held_bytes() - resident_bytes()
        alone = measure_job(
            task,
            plan,
            self.job.digest,
            data=held.encoded,
            bases=planned_bases(plan, self.job.bases),
            limit_bytes=bench.limits.read().limit_bytes - beside,
            on_progress=lambda done, total: call.tell(Progress(done=done, total=total)),
            before_step=call.check,
        )
        # The limit is that of the agent, whose own process is there as long as this one.
        return replace(alone, ram_loaded_bytes=alone.ram_loaded_bytes + beside)

    def _check_room(self, bench: Bench) -> None:
        """Refuse a model whose weights alone do not fit, before they are loaded."""
        from edge_agent.training.model_folder import least_loaded_bytes  # noqa: PLC0415 - not needed before a job comes

        bench.load_libraries()
        plan, limit = self.job.plan, bench.limits.read().limit_bytes
        weights = least_loaded_bytes(plan, self.job.folder)
        if bench.limits.held_bytes() + weights > limit and not bench.holds_model:
            raise ResourceError(
                f"The weights of the model '{plan.model_name}' take {weights >> 20} MiB; that does not fit this agent's"
                f" limit of {limit >> 20} MiB.",
                reason=ErrorReason.MEMORY_LIMIT,
                next_step="Raise ram_limit_mb or the system's limit for the agent, or leave this job to other PCs.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetJob(Order[None]):
    """Drop what is held for a job, prepared or not."""

    digest: Digest

    def carry_out(self, bench: Bench, call: Call) -> None:
        """Drop its data, and its model where that is in memory."""
        del call
        bench.forget(self.digest)
