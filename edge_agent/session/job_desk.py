"""Get ready for a job: check the data first, then fetch, load and measure the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from edge_agent.config import AgentFile
from edge_agent.data.site_data import SiteExamples, has_changed, read_site_data
from edge_agent.hardware.correction import correct_profile
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import resident_bytes
from edge_agent.hardware.profile_cache import MeasuredJob, ProfileCache
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.lane import Lane
from edge_agent.session.transfer import Downloads
from ravan.data.stamp import Stamp
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.phases import AgentActivity
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile

if TYPE_CHECKING:
    from ravan.tasks.task_model import EncodedExamples, TaskModel

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class PreparedJob:
    """What is at hand for the rounds of one plan."""

    plan: JobPlan
    folder: Path
    """The base model's files."""
    bases: dict[int, Path]
    """Files of bases that this machine draws differently, by matrix ordinal."""
    profile: JobProfile
    data: EncodedExamples
    data_stamp: Stamp
    """Of the source that `data` came from."""


class JobDesk:
    """Prepare jobs, and hand out their model and data for training."""

    def __init__(
        self,
        *,
        config: AgentFile,
        threads: int,
        downloads: Downloads,
        lane: Lane,
        board: ActivityBoard,
        limits: LimitReader,
    ) -> None:
        from edge_agent.training.base_model import ModelSlot  # noqa: PLC0415 - imports torch

        self._config = config
        self._threads = threads
        self._downloads = downloads
        self._lane = lane
        self._board = board
        self._limits = limits
        self._profiles = ProfileCache(config.agent.state_dir / "profiles")
        self._slot = ModelSlot()
        self._jobs: dict[Digest, PreparedJob] = {}
        lane.when_idle(self._rest)

    async def prepare(self, plan: JobPlan, digest: Digest) -> JobProfile:
        """Return the job's measured cost; raise DataError before anything is fetched, or another RavanError."""
        log.info("preparing", job=plan.job_name, model=plan.model_name)
        found = await self._lane.in_thread(lambda _: read_site_data(self._config, plan.training))
        log.info("data read", job=plan.job_name, **_counts(found))
        self._downloads.cache.begin_job(digest, plan)
        with self._board.doing(AgentActivity.DOWNLOADING):
            blobs = await self._fetch_model(plan)
        bases = await self._fetch_bases(plan)
        with self._board.doing(AgentActivity.MEASURING):
            job = await self._lane.in_thread(lambda _: self._build(plan, digest, blobs, bases, found))
        self._jobs[digest] = job
        self._say_what_is_missing(job)
        return job.profile

    def job(self, digest: Digest) -> PreparedJob:
        """Return a prepared job."""
        return self._jobs[digest]

    def profile_of(self, digest: Digest) -> JobProfile | None:
        """Return what a job costs by all that is known now; None when it is over."""
        job = self._jobs.get(digest)
        return None if job is None else job.profile

    def correct(self, job: PreparedJob, matrices: int, seen_bytes: int) -> None:
        """Remember that training the top `matrices` takes more than was measured, `seen_bytes` in all at least."""
        job.profile = correct_profile(job.profile, matrices, seen_bytes)
        self._keep(job.plan, job.profile)
        log.warning("corrected", job=job.plan.job_name, **_figures(job.profile))

    def forget(self, digest: Digest) -> None:
        """Drop a job and the model in memory."""
        self._downloads.cache.end_job(digest)
        if self._jobs.pop(digest, None) is not None:
            self._slot.drop()

    def model_of(self, job: PreparedJob) -> TaskModel[Any]:
        """Return the job's model, loaded if another one was used meanwhile. Blocks."""
        return self._slot.load(job.folder, job.plan)

    def _rest(self) -> None:
        """Give the model's memory back to the PC; whoever needs the model loads it again. Blocks."""
        if self._slot.loaded:
            before = resident_bytes()
            self._slot.drop()
            log.info("unloaded the base model for want of work", freed_mb=max(0, before - resident_bytes()) >> 20)

    def refresh_data(self, job: PreparedJob) -> EncodedExamples:
        """Return the job's data, read again if they have changed; raise DataError. Blocks."""
        if has_changed(self._config, job.plan.training, job.data_stamp):
            found = read_site_data(self._config, job.plan.training)
            job.data = self.model_of(job).encode(found.examples)
            job.data_stamp = found.stamp
            log.info("data read again", job=job.plan.job_name, **_counts(found))
        return job.data

    async def _fetch_model(self, plan: JobPlan) -> dict[str, Path]:
        total = sum(file.size_bytes for file in plan.model_files)
        done = 0
        paths: dict[str, Path] = {}
        for file in plan.model_files:

            def tell(part: int, _: int, before: int = done) -> None:
                percent = 100 * (before + part) // total
                self._board.progress(before + part, total, job=plan.job_name, percent=percent)

            paths[file.path] = await self._downloads.fetch(file.sha256, file.size_bytes, tell)
            done += file.size_bytes
        return paths

    async def _fetch_bases(self, plan: JobPlan) -> dict[int, Path]:
        from edge_agent.training.bases import differing_matrices  # noqa: PLC0415 - not needed before a job comes

        differing = await self._lane.in_thread(lambda _: differing_matrices(plan))
        if differing:
            log.warning("this machine draws some bases differently; fetching them", matrices=len(differing))
        return {matrix.ordinal: await self._downloads.fetch(matrix.basis_digest) for matrix in differing}

    def _build(
        self,
        plan: JobPlan,
        digest: Digest,
        blobs: dict[str, Path],
        bases: dict[int, Path],
        found: SiteExamples,
    ) -> PreparedJob:
        """Load, encode, measure. Blocks."""
        import torch  # noqa: PLC0415 - slow to import, and not needed before a job comes

        from edge_agent.training.base_model import (  # noqa: PLC0415 - imports torch
            assemble_model_folder,
            least_loaded_bytes,
        )

        torch.set_num_threads(self._threads)
        self._check_room(plan, least_loaded_bytes(plan, blobs))
        folder = assemble_model_folder(plan, blobs, self._config.agent.cache_dir / "models")
        task = self._slot.load(folder, plan)
        data = task.encode(found.examples)
        return PreparedJob(
            plan=plan,
            folder=folder,
            bases=bases,
            data=data,
            data_stamp=found.stamp,
            profile=self._measured(plan, digest, task, data, bases),
        )

    def _measured(
        self, plan: JobPlan, digest: Digest, task: TaskModel[Any], data: EncodedExamples, bases: dict[int, Path]
    ) -> JobProfile:
        known = self._profiles.find(digest, self._threads)
        if known is not None:
            return known
        from edge_agent.hardware.measurement import measure_job  # noqa: PLC0415 - imports torch
        from edge_agent.training.bases import planned_bases  # noqa: PLC0415 - imports torch

        profile = measure_job(
            task,
            plan,
            digest,
            data=data,
            bases=planned_bases(plan, bases),
            limit_bytes=self._limits.read().limit_bytes,
            on_progress=lambda done, total: self._board.progress(done, total, job=plan.job_name),
        )
        self._keep(plan, profile)
        log.info(
            "measured",
            job=plan.job_name,
            **_figures(profile),
            step_ms=round(1000 * profile.step_floor_s),
            matrix_ms=round(1000 * profile.step_per_matrix_s, 1),
        )
        return profile

    def _keep(self, plan: JobPlan, profile: JobProfile) -> None:
        self._profiles.keep(
            MeasuredJob(profile=profile, job_name=plan.job_name, matrices=len(plan.matrices), threads=self._threads)
        )

    def _say_what_is_missing(self, job: PreparedJob) -> None:
        """Tell the site where not even the smallest allocation fits; the coordinator leaves it out by the profile."""
        limit, needed = self._limits.read().limit_bytes, job.profile.peak_bytes(0)
        if needed > limit:
            log.warning(
                f"Not even the smallest part of the job '{job.plan.job_name}' fits this PC: it takes"
                f" {needed >> 20} MiB, and the agent's limit is {limit >> 20} MiB.",
                next_step="Raise ram_limit_mb or the system's limit for the agent; then it takes part.",
            )

    def _check_room(self, plan: JobPlan, weights: int) -> None:
        """Refuse a model whose weights alone do not fit, before they are loaded."""
        limit = self._limits.read().limit_bytes
        if resident_bytes() + weights > limit and not self._slot.loaded:
            raise ResourceError(
                f"The weights of the model '{plan.model_name}' take {weights >> 20} MiB; that does not fit this agent's"
                f" limit of {limit >> 20} MiB.",
                reason=ErrorReason.MEMORY_LIMIT,
                next_step="Raise ram_limit_mb or the system's limit for the agent, or leave this job to other PCs.",
            )


def _counts(found: SiteExamples) -> dict[str, int]:
    return {
        "examples": len(found.examples),
        "left_out": found.examples.left_out,
        "duplicates": found.duplicates,
        "kept_back": found.kept_back,
    }


def _figures(profile: JobProfile) -> dict[str, int]:
    return {
        "loaded_mb": profile.ram_loaded_bytes >> 20,
        "step_mb": profile.ram_floor_bytes >> 20,
        "matrix_kb": profile.ram_per_matrix_bytes >> 10,
    }
