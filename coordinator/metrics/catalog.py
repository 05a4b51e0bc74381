"""Every metric of the coordinator, in one place: what it is, and the question that it answers.

Labels come from closed lists (phases, outcomes, reasons, methods); never from sites or rounds. Counters and gauges
exist with all values of their labels from the start, since a rate misses what a counter had when it appeared. The one
open label, `job`, is on the two model gauges only and goes when the job ends.
"""

from __future__ import annotations

import math
from typing import Final

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics

from coordinator.enrolment.succession import RenewalOutcome
from coordinator.leases.lease import Lease
from coordinator.metrics.description import Description, Kind, Unit
from coordinator.metrics.disk import DiskKind
from coordinator.metrics.fleet_health import FleetHealth, Release
from coordinator.metrics.instruments import Instruments
from coordinator.metrics.methods import RPC_METHODS
from coordinator.work.tasks import TaskState
from ravan.errors import ErrorReason
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState
from ravan.version import VERSION

RPC_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PHASE_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
COHORT_BUCKETS: Final = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)
STORE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
MEMORY_BUCKETS: Final = tuple(float(mib << 20) for mib in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384))
DISK_BUCKETS: Final = tuple(float(mib << 20) for mib in (256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536))
PART_BUCKETS: Final = (0.25, 0.5, 0.75, 0.9, 1.0)
STEP_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SILENCE_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0)
SKEW_BUCKETS: Final = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86_400.0)

CERTIFICATES: Final = ("ca", "server", "site")
"""Values of `certificate`; `site` is the enrolled, not revoked site whose certificate ends first."""

ENDINGS: Final = {"expired": 0.0, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0, "later": math.inf}
"""Values of `ends`: a certificate ends within so many seconds, and not within those of the value before."""

OPEN: Final = ()
"""Values of a label that the code cannot list: names of jobs, and of transactions, which are literals of the code."""

PROCESS: Final = (
    ("process_cpu_seconds_total", Kind.COUNTER, "Processor time of the daemon.", "How busy is the daemon?"),
    ("process_resident_memory_bytes", Kind.GAUGE, "Resident memory of the daemon.", "How much memory does it take?"),
    (
        "process_virtual_memory_bytes",
        Kind.GAUGE,
        "Address space of the daemon.",
        "How much address space does it take?",
    ),
    ("process_open_fds", Kind.GAUGE, "Open files and sockets.", "How many files and sockets are open?"),
    ("process_max_fds", Kind.GAUGE, "Most files and sockets that it may open.", "How many may be open?"),
    ("process_start_time_seconds", Kind.GAUGE, "When the process started.", "Since when does the daemon run?"),
)
"""What prometheus-client tells of the process where the system has /proc: name, kind, help, question."""


class Catalog:
    """All metrics on a registry of their own; one per process, several in tests."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # they double the number of series and nobody asks for them
        self.registry = CollectorRegistry()
        self._add = Instruments(self.registry)
        self._describe_rounds()
        self._describe_models()
        self._describe_sites()
        self._describe_certificates()
        self._describe_health()
        self._describe_service()
        self._describe_leadership()
        self._describe_process()

    @property
    def descriptions(self) -> tuple[Description, ...]:
        """Return what is to be known of each metric, in the order of the pages."""
        return tuple(self._add.descriptions)

    def _describe_rounds(self) -> None:
        self.round_phase = self._add.gauge(
            "ravan_round_phase", "Rounds that are in a phase now.", "Where do the rounds stand?", phase=RoundPhase
        )
        self.round_phase_seconds = self._add.histogram(
            "ravan_round_phase_seconds",
            "Time a phase of a round took.",
            "Which part of a round takes the time?",
            PHASE_BUCKETS,
            phase=RoundPhase,
        )
        self.training_deadline = self._add.gauge(
            "ravan_training_deadline_seconds",
            "Time that sites have for training in the round that began last; 0 before the first.",
            "How long may a round take?",
        )
        self.rounds = self._add.counter(
            "ravan_rounds_total",
            "Rounds that ended.",
            "Do rounds end in new versions, and if not, why?",
            outcome=RoundOutcome,
        )
        self.last_commit = self._add.gauge(
            "ravan_last_commit_timestamp_seconds",
            "When the last round was committed; 0 before the first.",
            "Since when has nothing come out?",
        )
        self.selected_sites = self._add.counter(
            "ravan_selected_sites_total",
            "Sites that were selected for rounds that ended.",
            "How many sites are asked?",
        )
        self.counted_sites = self._add.counter(
            "ravan_counted_sites_total",
            "Sites whose update is in the sum of a round that ended.",
            "Which part of those that are asked comes through?",
        )
        self.site_drops = self._add.counter(
            "ravan_site_drops_total",
            "Sites that left a round before its end.",
            "Why do sites drop out, and in which phase?",
            phase=RoundPhase,
            reason=DropReason,
        )
        self.resting_sites = self._add.gauge(
            "ravan_resting_sites",
            "Connected sites that jobs leave out since they keep failing.",
            "How many sites fail again and again?",
        )
        self.head_cohort = self._add.histogram(
            "ravan_head_cohort",
            "Survivors whose update of a head is in the sum, per head and round; 0 when it was withheld.",
            "How many sites stand behind a head, and how many heads stay as they were?",
            COHORT_BUCKETS,
        )
        self.masked_bytes = self._add.counter(
            "ravan_masked_bytes_total", "Masked bytes received from sites.", "What do uploads take of the line?"
        )
        self.unmask_seconds = self._add.histogram(
            "ravan_unmask_seconds",
            "Time that removing the masks of a round took.",
            "What does secure aggregation cost here?",
            PHASE_BUCKETS,
        )

    def _describe_models(self) -> None:
        self.model_accuracy = self._add.gauge(
            "ravan_model_accuracy",
            "Accuracy of a job's newest version on held-out data, 0 to 1.",
            "Does the model get better?",
            Unit.RATIO,
            job=OPEN,
        )
        self.model_loss = self._add.gauge(
            "ravan_model_loss",
            "Mean loss of a job's newest version on held-out data.",
            "Does it still learn where the accuracy stands still?",
            Unit.NATS,
            job=OPEN,
        )
        self.queued_jobs = self._add.gauge(
            "ravan_queued_jobs",
            "Jobs that wait until fewer others run.",
            "Does the limit of jobs hold work up?",
        )
        self.jobs = self._add.gauge("ravan_jobs", "Jobs by state.", "Which jobs need somebody?", state=JobState)

    def _describe_sites(self) -> None:
        self.sites = self._add.gauge("ravan_sites", "Sites by state.", "Is the fleet there?", state=SiteState)
        self.heartbeats = self._add.counter(
            "ravan_heartbeats_total", "Heartbeats received from sites.", "Does the coordinator hear the fleet?"
        )
        self.basis_downloads = self._add.counter(
            "ravan_basis_downloads_total",
            "Bases sent because a site derived other bits than the coordinator.",
            "Does any site compute other bits?",
        )
        self.site_activities = self._add.gauge(
            "ravan_site_activities",
            "Connected sites by what they are doing.",
            "What is the fleet busy with?",
            activity=AgentActivity,
        )
        self.site_releases = self._add.gauge(
            "ravan_site_releases",
            "Connected sites by their release beside the coordinator's.",
            "How far is an upgrade of the fleet?",
            release=Release,
        )

    def _describe_certificates(self) -> None:
        self.certificate_expiry = self._add.gauge(
            "ravan_certificate_expiry_seconds",
            "Time until a certificate expires; negative afterwards.",
            "Which certificate has to be renewed?",
            certificate=CERTIFICATES,
            from_the_start=False,  # 0 would say that it ends now
        )
        self.site_certificates = self._add.gauge(
            "ravan_site_certificates",
            "Certificates of enrolled sites by how soon they end; each site counts once.",
            "Do the sites renew their certificates?",
            ends=ENDINGS,
        )
        self.renewals = self._add.counter(
            "ravan_renewals_total",
            "Renewals of sites' certificates.",
            "Do renewals succeed?",
            outcome=RenewalOutcome,
        )

    def _describe_health(self) -> None:
        self._site_resident = self._add.distribution(
            "ravan_site_resident_bytes",
            "Resident memory of connected agents now.",
            "What does the agent take of the PCs?",
            MEMORY_BUCKETS,
        )
        self._site_memory = self._add.distribution(
            "ravan_site_memory_ratio",
            "Highest resident memory of connected agents since their start, as a part of their limit.",
            "How many agents come near their memory limit?",
            PART_BUCKETS,
        )
        self._site_disk_free = self._add.distribution(
            "ravan_site_disk_free_bytes",
            "Free space at connected sites when they reported last.",
            "How many PCs are short of disk?",
            DISK_BUCKETS,
        )
        self._site_step = self._add.distribution(
            "ravan_site_step_cpu_seconds",
            "Processor time of a training step at connected sites, mean of their newest round.",
            "How unlike are the PCs, and do they get slower?",
            STEP_BUCKETS,
        )
        self._site_silence = self._add.distribution(
            "ravan_site_silence_seconds",
            "Time since the newest sign of life of connected sites.",
            "Do heartbeats arrive in time?",
            SILENCE_BUCKETS,
        )
        self._site_clock_skew = self._add.distribution(
            "ravan_site_clock_skew_seconds",
            "How far clocks of connected sites are off the coordinator's, ahead or behind.",
            "How many PCs have a wrong clock?",
            SKEW_BUCKETS,
        )

    def _describe_service(self) -> None:
        self.rpc_seconds = self._add.histogram(
            "ravan_rpc_seconds",
            "Time that calls took, by gRPC status; streams count when they end.",
            "Which calls are slow or fail?",
            RPC_BUCKETS,
            method=(*sorted(RPC_METHODS), "unknown"),
            outcome=tuple(code.name for code in StatusCode),
        )
        self.refusals = self._add.counter(
            "ravan_refusals_total", "Calls that were refused.", "What is refused, and why?", reason=ErrorReason
        )
        self.store_seconds = self._add.histogram(
            "ravan_store_seconds",
            "Time that transactions of the database took.",
            "Is the database slow?",
            STORE_BUCKETS,
            transaction=OPEN,
        )
        self.tasks = self._add.gauge(
            "ravan_tasks", "Heavy work of rounds by state.", "Are there enough workers?", state=TaskState
        )
        self.audit_records = self._add.gauge(
            "ravan_audit_records", "Records of the audit log.", "How long is the audit log?"
        )
        self.lost_spans = self._add.counter(
            "ravan_lost_spans_total",
            "Spans of traces that no collector took.",
            "Are the traces whole?",
        )
        self.disk_free_bytes = self._add.gauge(
            "ravan_disk_free_bytes", "Free space where the data folder lies.", "When is the disk full?"
        )
        self.disk_bytes = self._add.gauge(
            "ravan_disk_bytes",
            "Disk that the coordinator takes, by what for.",
            "What takes the disk?",
            kind=DiskKind,
        )
        question = "Which release runs?"
        self.build = Info("ravan_build", "Version of the coordinator.", registry=self.registry)
        self.build.info({"version": VERSION})
        self._add.describe("ravan_build_info", Kind.GAUGE, "Version of the coordinator.", question, version=(VERSION,))

    def _describe_leadership(self) -> None:
        self.lease_held = self._add.gauge(
            "ravan_lease_held", "1 while this process leads the rounds.", "Does exactly one process lead?"
        )
        self.lease_until = self._add.gauge(
            "ravan_lease_until_timestamp_seconds",
            "When the lease on the rounds ends unless this process renews it; 0 where it does not lead.",
            "Does the process that leads still renew its lease?",
        )
        self.lease_losses = self._add.counter(
            "ravan_lease_losses_total",
            "Times that another process has taken the rounds over.",
            "How often does the lead change against the will of who has it?",
        )

    def _describe_process(self) -> None:
        ProcessCollector(registry=self.registry)
        for name, kind, help, question in PROCESS:
            self._add.describe(name, kind, help, question)

    def show_fleet(self, health: FleetHealth) -> None:
        """Show how the connected sites fare now."""
        self._site_resident.show(health.resident_bytes)
        self._site_memory.show(health.memory_ratios)
        self._site_disk_free.show(health.disk_free_bytes)
        self._site_step.show(health.step_cpu_s)
        self._site_silence.show(health.silences_s)
        self._site_clock_skew.show(health.clock_skews_s)
        for activity in AgentActivity:
            self.site_activities.labels(activity).set(health.activities[activity])
        for release in Release:
            self.site_releases.labels(release).set(health.releases[release])

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


def series_names(catalog: Catalog) -> frozenset[str]:
    """Return every name that a query may use."""
    return frozenset(name for described in catalog.descriptions for name in described.series)
