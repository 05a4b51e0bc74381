"""What rounds and jobs tell the metrics."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Protocol

from coordinator.metrics.catalog import Catalog
from ravan.clock import Clock
from ravan.ids import JobId
from ravan.manifest.phases import DropReason, RoundOutcome, RoundPhase


class Measured(Protocol):
    """How good a model version is."""

    @property
    def accuracy(self) -> float:
        """Share of held-out examples that it gets right, 0 to 1."""
        ...

    @property
    def loss(self) -> float:
        """Mean held-out loss."""
        ...


class CatalogRoundMetrics:
    """Write rounds into the catalogue; the conductor's `RoundMetrics`."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._phases: dict[JobId, RoundPhase] = {}
        self._resting: dict[JobId, int] = {}

    def round_began(self, training_deadline_s: float) -> None:
        """Show how long the sites of the newest round have for training."""
        self._catalog.training_deadline.set(training_deadline_s)

    def phase_changed(self, job_id: JobId, phase: RoundPhase | None) -> None:
        """Show how many rounds are in each phase; None: the job has no round."""
        if phase is None:
            self._phases.pop(job_id, None)
        else:
            self._phases[job_id] = phase
        counts = Counter(self._phases.values())
        for each in RoundPhase:
            self._catalog.round_phase.labels(each).set(counts[each])

    def phase_ended(self, phase: RoundPhase, seconds: float, trace_id: str) -> None:
        """Time a phase."""
        self._catalog.round_phase_seconds.labels(phase).observe(seconds, _exemplar(trace_id))

    def round_ended(self, outcome: RoundOutcome, *, selected: int, counted: int) -> None:
        """Count a round, and the sites that were selected for it and that are in its sum."""
        self._catalog.rounds.labels(outcome).inc()
        self._catalog.selected_sites.inc(selected)
        self._catalog.counted_sites.inc(counted)
        if outcome is RoundOutcome.COMMITTED:
            self._catalog.last_commit.set(self._clock.now())

    def sites_resting(self, job_id: JobId, count: int) -> None:
        """Show how many sites rest, over all jobs."""
        self._resting[job_id] = count
        self._catalog.resting_sites.set(sum(self._resting.values()))

    def site_dropped(self, phase: RoundPhase, reason: DropReason) -> None:
        """Count a site that left a round."""
        self._catalog.site_drops.labels(phase, reason).inc()

    def head_cohort(self, survivors: int) -> None:
        """Take note of a head's survivors; 0 when it was withheld."""
        self._catalog.head_cohort.observe(survivors)

    def masked_bytes(self, count: int) -> None:
        """Count the bytes of a staged vector."""
        self._catalog.masked_bytes.inc(count)

    def unmasked(self, seconds: float, trace_id: str) -> None:
        """Time an unmasking."""
        self._catalog.unmask_seconds.observe(seconds, _exemplar(trace_id))

    def model_evaluated(self, job: str, evaluation: Measured) -> None:
        """Show a job's newest version."""
        self._catalog.model_accuracy.labels(job).set(evaluation.accuracy)
        self._catalog.model_loss.labels(job).set(evaluation.loss)

    def jobs_queued(self, count: int) -> None:
        """Show how many jobs wait until fewer run."""
        self._catalog.queued_jobs.set(count)

    def job_ended(self, job: str) -> None:
        """Take a job's gauges away."""
        for gauge in (self._catalog.model_accuracy, self._catalog.model_loss):
            with suppress(KeyError):  # a job that was never evaluated has none
                gauge.remove(job)

    def forget(self) -> None:
        """Show no rounds and no models: another process leads them now."""
        self._phases.clear()
        for phase in RoundPhase:
            self._catalog.round_phase.labels(phase).set(0)
        for gauge in (self._catalog.model_accuracy, self._catalog.model_loss):
            gauge.clear()


def _exemplar(trace_id: str) -> dict[str, str] | None:
    """Return what leads from a bucket to the trace of the round that fell into it last."""
    return {"trace_id": trace_id} if trace_id else None
