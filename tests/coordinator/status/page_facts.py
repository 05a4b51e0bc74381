"""A federation in trouble of every kind that the page shows."""

from __future__ import annotations

from coordinator.audit.chain import AuditKind
from coordinator.status.facts import (
    Absence,
    CoverageFacts,
    DeedFacts,
    EventFacts,
    JobFacts,
    PointFacts,
    RoundFacts,
    SiteFacts,
    StatusFacts,
)
from ravan.ids import SiteId
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState

NOW = 1_790_000_000.0
EVIL = '<script>alert("1")</script>'

COVERAGE = CoverageFacts(
    round_number=7,
    survivors=8,
    matrices=("layer.0.query", "layer.0.value", "layer.1.query"),
    heads=4,
    counts={(0, 0): 1, (0, 1): 3, (0, 2): 4, (1, 0): 5, (1, 1): 6, (1, 2): 7, (1, 3): 8}
    | {(2, head): 8 for head in range(4)},
    withheld=frozenset({(0, 3)}),
)

JOB = JobFacts(
    job_id="orders-1",
    name=f"orders {EVIL}",
    state=JobState.RUNNING,
    is_led=True,
    message="Two heads have nobody & wait.",
    rounds_planned=12,
    rounds_done=7,
    accuracy_before=0.125,
    accuracy=0.75,
    running=RoundFacts(number=8, phase=RoundPhase.TRAINING, deadline_at=NOW + 240, selected=9, dropped=1),
    points=tuple(PointFacts(number=n, accuracy=0.1 * n, loss=2.0 - 0.1 * n) for n in (1, 2, 4, 5, 7)),
    coverage=COVERAGE,
)

SITES = (
    SiteFacts(
        name="plant-a",
        state=SiteState.ONLINE,
        last_seen=NOW - 3,
        activity=AgentActivity.TRAINING,
        share_done=0.25,
        heads=48,
        memory_bytes=640 << 20,
    ),
    SiteFacts(name=EVIL, state=SiteState.OFFLINE, last_seen=NOW - 90_000, absence=Absence.OFFLINE),
    SiteFacts(
        name="plant-c",
        state=SiteState.ONLINE,
        last_seen=NOW,
        activity=AgentActivity.IDLE,
        absence=Absence.DROPPED,
        drop_reason=DropReason.MEMORY,
    ),
    SiteFacts(
        name="plant-d",
        state=SiteState.ONLINE,
        last_seen=NOW,
        absence=Absence.RESTING,
        note="rests from orders until round 9",
    ),
    SiteFacts(name="plant-e", state=SiteState.INVITED, absence=Absence.NOT_ENROLLED),
)

EVENTS = (
    EventFacts(
        at=NOW - 100,
        job="orders",
        round_number=7,
        outcome=RoundOutcome.COMMITTED,
        completed=8,
        selected=9,
        drops=((SiteId("plant-c"), DropReason.DEADLINE),),
    ),
    EventFacts(at=NOW - 400, job="orders", round_number=6, outcome=RoundOutcome.TOO_FEW_SITES, completed=0, selected=9),
)

DEEDS = (
    DeedFacts(at=NOW - 50, kind=AuditKind.CALL_DENIED, subject="StopJob", actor="mia"),
    DeedFacts(at=NOW - 90, kind=AuditKind.STARTED, subject="", actor=""),
)

FACTS = StatusFacts(
    version="1.2.3",
    now=NOW,
    addresses=(("agents", "127.0.0.1:8443"),),
    jobs=(JOB,),
    sites=SITES,
    events=EVENTS,
    deeds=DEEDS,
)
