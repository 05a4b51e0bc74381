"""Every metric of the coordinator, in one place.

Labels come from closed lists (phases, outcomes, reasons, methods); never from sites or rounds. The
one open label, `job`, is on the two model gauges only and goes when the job ends.
"""

from __future__ import annotations

import math
from typing import Final

from grpc import StatusCode
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from coordinator.enrolment.succession import RenewalOutcome
from coordinator.leases.lease import Lease
from coordinator.metrics.disk import DiskKind
from coordinator.metrics.methods import RPC_METHODS
from coordinator.work.tasks import TaskState
from ravan.errors import ErrorReason
from ravan.manifest.phases import JobState, RoundOutcome, RoundPhase, SiteState
from ravan.version import VERSION

RPC_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PHASE_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
COHORT_BUCKETS: Final = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)
STORE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

CERTIFICATES: Final = ("ca", "server", "site")
"""Values of `certificate`; `site` is the enrolled, not revoked site whose certificate ends first."""

ENDINGS: Final = {"expired": 0.0, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0, "later": math.inf}
"""Values of `ends`: a certificate ends within so many seconds, and not within those of the value before."""


class Catalog:
    """All metrics on a registry of their own; one per process, several in tests."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # they double the number of series and nobody asks for them
        self.registry = CollectorRegistry()
        self._describe_rounds()
        self._describe_fleet()
        self._describe_service()
        ProcessCollector(registry=self.registry)

    def _describe_rounds(self) -> None:
        at = self.registry
        self.round_phase_seconds = Histogram(
            "ravan_round_phase_seconds", "Time a phase of a round took.", ["phase"], buckets=PHASE_BUCKETS, registry=at
        )
        self.round_phase = Gauge("ravan_round_phase", "Rounds that are in a phase now.", ["phase"], registry=at)
        self.training_deadline = Gauge(
            "ravan_training_deadline_seconds",
            "Time that sites have for training in the round that began last; 0 before the first.",
            registry=at,
        )
        self.rounds = Counter("ravan_rounds_total", "Rounds that ended.", ["outcome"], registry=at)
        self.last_commit = Gauge(
            "ravan_last_commit_timestamp_seconds", "When the last round was committed; 0 before the first.", registry=at
        )
        self.site_drops = Counter(
            "ravan_site_drops_total", "Sites that left a round before its end.", ["phase", "reason"], registry=at
        )
        self.resting_sites = Gauge(
            "ravan_resting_sites", "Connected sites that jobs leave out since they keep failing.", registry=at
        )
        self.head_cohort = Histogram(
            "ravan_head_cohort",
            "Survivors whose update of a head is in the sum, per head and round; 0 when it was withheld.",
            buckets=COHORT_BUCKETS,
            registry=at,
        )
        self.masked_bytes = Counter("ravan_masked_bytes_total", "Masked bytes received from sites.", registry=at)
        self.unmask_seconds = Histogram(
            "ravan_unmask_seconds", "Time that removing the masks of a round took.", buckets=PHASE_BUCKETS, registry=at
        )
        self.model_accuracy = Gauge(
            "ravan_model_accuracy", "Accuracy of a job's newest version on held-out data, 0 to 1.", ["job"], registry=at
        )
        self.model_loss = Gauge(
            "ravan_model_loss", "Mean loss of a job's newest version on held-out data.", ["job"], registry=at
        )
        self.queued_jobs = Gauge("ravan_queued_jobs", "Jobs that wait until fewer others run.", registry=at)
        self.jobs = Gauge("ravan_jobs", "Jobs by state.", ["state"], registry=at)
        for phase in RoundPhase:
            self.round_phase.labels(phase)
        for outcome in RoundOutcome:
            self.rounds.labels(outcome)
        for state in JobState:
            self.jobs.labels(state)

    def _describe_fleet(self) -> None:
        at = self.registry
        self.sites = Gauge("ravan_sites", "Sites by state.", ["state"], registry=at)
        self.heartbeats = Counter("ravan_heartbeats_total", "Heartbeats received from sites.", registry=at)
        self.basis_downloads = Counter(
            "ravan_basis_downloads_total",
            "Bases sent because a site derived other bits than the coordinator.",
            registry=at,
        )
        self.certificate_expiry = Gauge(
            "ravan_certificate_expiry_seconds",
            "Time until a certificate expires; negative afterwards.",
            ["certificate"],
            registry=at,
        )
        self.site_certificates = Gauge(
            "ravan_site_certificates",
            "Certificates of enrolled sites by how soon they end; each site counts once.",
            ["ends"],
            registry=at,
        )
        self.renewals = Counter("ravan_renewals_total", "Renewals of sites' certificates.", ["outcome"], registry=at)
        for state in SiteState:
            self.sites.labels(state)
        for outcome in RenewalOutcome:
            self.renewals.labels(outcome)
        for within in ENDINGS:
            self.site_certificates.labels(within)

    def _describe_service(self) -> None:
        at = self.registry
        self.rpc_seconds = Histogram(
            "ravan_rpc_seconds",
            "Time that calls took, by gRPC status; streams count when they end.",
            ["method", "outcome"],
            buckets=RPC_BUCKETS,
            registry=at,
        )
        self.refusals = Counter("ravan_refusals_total", "Calls that were refused.", ["reason"], registry=at)
        self.store_seconds = Histogram(
            "ravan_store_seconds",
            "Time that transactions of the database took.",
            ["transaction"],
            buckets=STORE_BUCKETS,
            registry=at,
        )
        self.tasks = Gauge("ravan_tasks", "Heavy work of rounds by state.", ["state"], registry=at)
        for task_state in TaskState:
            self.tasks.labels(task_state)
        self.lease_held = Gauge("ravan_lease_held", "1 while this process leads the rounds.", registry=at)
        self.lease_until = Gauge(
            "ravan_lease_until_timestamp_seconds",
            "When the lease on the rounds ends unless this process renews it; 0 where it does not lead.",
            registry=at,
        )
        self.lease_losses = Counter(
            "ravan_lease_losses_total", "Times that another process has taken the rounds over.", registry=at
        )
        self.audit_records = Gauge("ravan_audit_records", "Records of the audit log.", registry=at)
        self.disk_free_bytes = Gauge("ravan_disk_free_bytes", "Free space where the data folder lies.", registry=at)
        self.disk_bytes = Gauge(
            "ravan_disk_bytes", "Disk that the coordinator takes, by what for.", ["kind"], registry=at
        )
        self.build = Info("ravan_build", "Version of the coordinator.", registry=at)
        self.build.info({"version": VERSION})
        for reason in ErrorReason:
            self.refusals.labels(reason)
        for kind in DiskKind:
            self.disk_bytes.labels(kind)

    def lease_kept(self, lease: Lease) -> None:
        """Show that this process leads."""
        self.lease_held.set(1)
        self.lease_until.set(lease.until)

    def lease_left(self, *, lost: bool) -> None:
        """Show that it does not lead any more."""
        self.lease_held.set(0)
        self.lease_until.set(0)
        if lost:
            self.lease_losses.inc()

    def note_call(self, method: str, outcome: StatusCode, seconds: float) -> None:
        """Count a call as the guard reports it; methods that nobody serves share one name."""
        known = method.removeprefix("/").removeprefix("ravan.wire.v1.")
        name = known if known in RPC_METHODS else "unknown"
        self.rpc_seconds.labels(name, outcome.name).observe(seconds)

    def note_refusal(self, reason: ErrorReason) -> None:
        """Count a refused call."""
        self.refusals.labels(reason).inc()

    def note_renewal(self, outcome: RenewalOutcome) -> None:
        """Count a renewal."""
        self.renewals.labels(outcome).inc()

    def note_transaction(self, name: str, seconds: float) -> None:
        """Time a transaction of the store; names are literals of the code."""
        self.store_seconds.labels(name).observe(seconds)
