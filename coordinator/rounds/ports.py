"""What the rounds' shell needs of others, as protocols: tests bring their own, the daemon the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coordinator.jobs.jobfile import JobFile
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.store.records import ModelRecord
from ravan.ids import BlockId, Digest, JobId, RunId, SiteId
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase
from ravan.manifest.plan import JobPlan

if TYPE_CHECKING:
    from ravan.secagg.unmask import UnmaskJob


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A job that passed all checks."""

    plan: JobPlan
    state_digest: Digest
    """Blob of the state that the first round starts from."""
    notes: tuple[str, ...]
    """Sentences that the operator should read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What stays the same for one job in all of its rounds."""

    job_id: JobId
    file: JobFile
    plan: JobPlan
    plan_digest: Digest
    model_digest: Digest
    evaluation_digest: Digest


class Workshop(Protocol):
    """The heavy work: planning, unmasking, combining, evaluating. None of it runs on the event loop."""

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        """Check a job and draw up its plan and first state; raise RavanError with the value that would work."""
        ...

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        """Unmask the staged payloads (by member index) of all groups, decode the sums and store them as a blob.

        Raise ProtocolError (CANARY_MISMATCH) when masks did not cancel.
        """
        ...

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:
        """Add the mean deltas of a round to a model version and store the new one."""
        ...

    async def weigh(self, job: Job, state_digest: Digest) -> Mapping[BlockId, float]:
        """Return the norm of every head's product in a model version."""
        ...

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        """Measure a model version on the held-out examples."""
        ...


class Mailbox(Protocol):
    """Whoever carries stored instructions to the sites."""

    def wake(self, site: SiteId) -> None:
        """Tell the site's stream to look for new instructions."""
        ...


class StagedUploads(Protocol):
    """Where masked vectors lie until their round has ended."""

    def path_of(self, run_id: RunId, round_number: int, site: SiteId, sha256: Digest) -> Path:
        """Return where a vector lies once it is staged whole."""
        ...

    def discard_round(self, run_id: RunId, before_round: int) -> None:
        """Delete the staged vectors of all rounds of a run before this one. Blocks on disk."""
        ...

    def discard_run(self, run_id: RunId) -> None:
        """Delete all staged vectors of a run, and their folder. Blocks on disk."""
        ...


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Forget the call."""
        ...


class Timers(Protocol):
    """Calls at given times of the clock."""

    def call_at(self, at: float, call: Callable[[], None]) -> Timer:
        """Make the call at this time (seconds since the epoch), or soon when it has passed."""
        ...


class RoundMetrics(Protocol):
    """What rounds and jobs tell the metrics."""

    def round_began(self, training_deadline_s: float) -> None:
        """A round began whose sites have so long for training."""
        ...

    def phase_changed(self, job_id: JobId, phase: RoundPhase | None) -> None:
        """A job's round is in this phase now; None: it has no round."""
        ...

    def phase_ended(self, phase: RoundPhase, seconds: float, trace_id: str) -> None:
        """A phase took this long, in the round of this trace; empty: it is not traced."""
        ...

    def round_ended(self, outcome: RoundOutcome, *, selected: int, counted: int) -> None:
        """A round ended that had selected so many sites, and has the updates of so many in its sum."""
        ...

    def sites_resting(self, job_id: JobId, count: int) -> None:
        """A job leaves so many connected sites out for a while."""
        ...

    def site_dropped(self, phase: RoundPhase, reason: DropReason) -> None:
        """A site left a round."""
        ...

    def head_cohort(self, survivors: int) -> None:
        """A head of a committed round had this many survivors; 0 when it was withheld."""
        ...

    def masked_bytes(self, count: int) -> None:
        """A masked vector of this size is staged whole."""
        ...

    def unmasked(self, seconds: float, trace_id: str) -> None:
        """Unmasking took this long, in the round of this trace; empty: it is not traced."""
        ...

    def model_evaluated(self, job: str, evaluation: Evaluation) -> None:
        """A job's newest version was measured."""
        ...

    def jobs_queued(self, count: int) -> None:
        """So many jobs wait until fewer run."""
        ...

    def job_ended(self, job: str) -> None:
        """A job ended; its gauges go."""
        ...
