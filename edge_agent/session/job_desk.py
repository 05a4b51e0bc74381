"""Get ready for a job: check the data first, then fetch, load and measure the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.hardware.correction import correct_profile
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.profile_cache import MeasuredJob, ProfileCache
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.lane import Lane
from edge_agent.session.transfer import Downloads
from edge_agent.training.model_folder import assemble_model_folder
from edge_agent.worker.bench import JobFiles
from edge_agent.worker.orders import Answer, FindDifferingBases, ForgetJob, MeasureJob, Order, ReadData
from edge_agent.worker.port import Worker
from ravan.adapters.planned_bases import BasisFiles
from ravan.ids import Digest
from ravan.manifest.phases import AgentActivity
from ravan.manifest.plan import JobPlan
from ravan.manifest.profile import JobProfile

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class PreparedJob:
    """What is at hand for the rounds of one plan; model and data are with the worker."""

    files: JobFiles
    profile: JobProfile

    @property
    def plan(self) -> JobPlan:
        """Return the plan."""
        return self.files.plan


class JobDesk:
    """Prepare jobs with the worker, and keep what is known of them."""

    def __init__(
        self,
        *,
        state_dir: Path,
        cache_dir: Path,
        threads: int,
        worker: Worker,
        downloads: Downloads,
        lane: Lane,
        board: ActivityBoard,
        limits: LimitReader,
    ) -> None:
        """Take the threads that the worker trains with: what was measured with others does not count."""
        self._models = cache_dir / "models"
        self._threads = threads
        self._worker = worker
        self._downloads = downloads
        self._lane = lane
        self._board = board
        self._limits = limits
        self._profiles = ProfileCache(state_dir / "profiles")
        self._jobs: dict[Digest, PreparedJob] = {}
        lane.when_idle(self._rest)

    async def prepare(self, plan: JobPlan, digest: Digest) -> JobProfile:
        """Return the job's measured cost; raise DataError before anything is fetched, or another RavanError.

        What the worker holds for a job that does not get ready goes again.
        """
        log.info("preparing", job=plan.job_name, model=plan.model_name)
        try:
            return await self._prepared(plan, digest)
        except BaseException:  # also where it is called off
            self._have_put_away(digest)
            raise

    async def _prepared(self, plan: JobPlan, digest: Digest) -> JobProfile:
        await self._ask(ReadData(plan=plan, digest=digest))
        self._downloads.cache.begin_job(digest, plan)
        with self._board.doing(AgentActivity.DOWNLOADING):
            blobs = await self._fetch_model(plan)
        bases = await self._fetch_bases(plan)
        folder = await self._lane.in_thread(lambda _: assemble_model_folder(plan, blobs, self._models))
        files = JobFiles(plan=plan, digest=digest, folder=folder, bases=bases)
        with self._board.doing(AgentActivity.MEASURING):
            profile = await self._measured(files)
        self._jobs[digest] = PreparedJob(files=files, profile=profile)
        self._say_what_is_missing(plan, profile)
        return profile

    def job(self, digest: Digest) -> PreparedJob:
        """Return a prepared job."""
        return self._jobs[digest]

    def profile_of(self, digest: Digest) -> JobProfile | None:
        """Return what a job costs by all that is known now; None when it is over."""
        job = self._jobs.get(digest)
        return None if job is None else job.profile

    def suspect(self, job: PreparedJob, matrices: int) -> None:
        """Take it that the system ended a training for what it took, unless other programs leave less than it may take.

        Call this at once: with the worker's memory given back, what is available says whether others hold the rest.
        """
        if self._limits.leaves_room_for(job.profile.peak_bytes(matrices)):
            self.correct(job, matrices, 0)
        else:
            log.warning("other programs have the memory; the job's cost stays as it is", job=job.plan.job_name)

    def correct(self, job: PreparedJob, matrices: int, seen_bytes: int) -> None:
        """Remember that training the top `matrices` takes more than was measured, `seen_bytes` in all at least."""
        least, limit = 0 if job.plan.dense else 1, self._limits.read().limit_bytes
        job.profile = correct_profile(job.profile, matrices, seen_bytes, least=least, limit_bytes=limit)
        self._keep(job.plan, job.profile)
        log.warning("corrected", job=job.plan.job_name, **_figures(job.profile))

    def forget(self, digest: Digest) -> None:
        """Drop a job, and in its turn what the worker holds for it; with the last job that is all its memory."""
        self._downloads.cache.end_job(digest)
        if self._jobs.pop(digest, None) is not None:
            self._have_put_away(digest)

    def hurry(self) -> None:
        """Have what is called off end soon, since the agent ends."""
        self._worker.hurry()

    def _have_put_away(self, digest: Digest) -> None:
        # Not under the job's name: who prepares it again calls off what is queued for it.
        self._lane.submit(None, lambda: self._put_away(digest))

    async def _put_away(self, digest: Digest) -> None:
        try:
            if self._jobs:
                await self._ask(ForgetJob(digest=digest))
                return
        except Exception as error:  # a worker that cannot do even this is of no more use, and the agent lives on
            log.warning("the worker process could not forget a job, and is ended", why=str(error))
        await self._lane.in_thread(lambda _: self._worker.rest())

    def _rest(self) -> None:
        """Give the model's memory back to the PC; whoever needs the model loads it again. Blocks."""
        if freed := self._worker.rest():
            log.info("unloaded the base model for want of work", freed_mb=freed >> 20)

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

    async def _fetch_bases(self, plan: JobPlan) -> BasisFiles:
        directions = await self._downloads.fetch(plan.directions) if plan.directions else None
        differing = await self._ask(FindDifferingBases(plan=plan, directions=directions))
        if differing:
            log.warning("this machine draws some bases differently; fetching them", matrices=len(differing))
        digests = {matrix.ordinal: matrix.basis_digest for matrix in plan.matrices}
        whole = {ordinal: await self._downloads.fetch(digests[ordinal]) for ordinal in differing}
        return BasisFiles(directions=directions, whole=whole)

    async def _measured(self, files: JobFiles) -> JobProfile:
        plan = files.plan
        known = self._profiles.find(files.digest, self._threads)
        profile = await self._lane.in_thread(
            lambda cancelled: self._worker.ask(
                MeasureJob(job=files, known=known),
                cancelled,
                lambda heard: self._board.progress(heard.done, heard.total, job=plan.job_name),
            )
        )
        if known is None:
            self._keep(plan, profile)
            log.info(
                "measured",
                job=plan.job_name,
                **_figures(profile),
                step_ms=round(1000 * profile.step_floor_s),
                matrix_ms=round(1000 * profile.step_per_matrix_s, 1),
            )
        return profile

    async def _ask(self, order: Order[Answer]) -> Answer:
        return await self._lane.in_thread(lambda cancelled: self._worker.ask(order, cancelled))

    def _keep(self, plan: JobPlan, profile: JobProfile) -> None:
        self._profiles.keep(
            MeasuredJob(profile=profile, job_name=plan.job_name, matrices=len(plan.matrices), threads=self._threads)
        )

    def _say_what_is_missing(self, plan: JobPlan, profile: JobProfile) -> None:
        """Tell the site where not even the smallest allocation fits; the coordinator leaves it out by the profile."""
        limit, needed = self._limits.read().limit_bytes, profile.peak_bytes(0)
        if needed > limit:
            log.warning(
                f"Not even the smallest part of the job '{plan.job_name}' fits this PC: it takes"
                f" {needed >> 20} MiB, and the agent's limit is {limit >> 20} MiB.",
                next_step="Raise ram_limit_mb or the system's limit for the agent; then it takes part.",
            )


def _figures(profile: JobProfile) -> dict[str, int]:
    return {
        "loaded_mb": profile.ram_loaded_bytes >> 20,
        "step_mb": profile.ram_floor_bytes >> 20,
        "matrix_kb": profile.ram_per_matrix_bytes >> 10,
    }
