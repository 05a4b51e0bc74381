"""Facts of the page follow from the records: who takes part, who does not and why, what was counted, what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kept_jobs import plan_named, signed

from coordinator.audit.chain import START, AuditEntry, AuditKind, AuditRecord, next_record
from coordinator.fleet.status import SiteStatus
from coordinator.leases.lease import Lead, Lease
from coordinator.status.facts import Absence, SiteFacts
from coordinator.status.gathering import (
    DEEDS_SHOWN,
    JOBS_IN_FULL,
    Presence,
    Records,
    gather_deeds,
    gather_events,
    gather_jobs,
    gather_sites,
    jobs_in_full,
)
from coordinator.store.records import DropRecord, JobRecord, RoundRecord, SiteRecord, SiteRoundRecord, TokenRecord
from ravan.ids import BlockId, BlockKind, Digest, JobId, SiteId
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState

NOW = 1_790_000_000.0
PLAN = plan_named("orders")
STATUS = SiteStatus(process_id=b"p", last_seen=NOW - 1, hardware=None, heartbeat=None)


def site(name: str, **changes: object) -> SiteRecord:
    record = SiteRecord(
        name=SiteId(name),
        identity_key=b"i" * 32,
        certificate_pem=b"",
        certificate_serial=name,
        certificate_expires_at=NOW + 1000,
        enrolled_at=NOW - 1000,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def job(name: str = "orders", state: JobState = JobState.RUNNING, **changes: object) -> JobRecord:
    record = JobRecord(
        job_id=JobId(f"{name}-1"),
        name=name,
        state=state,
        message="",
        submitted_at=NOW - 900,
        request_id=name,
        job_toml="",
        plan=signed(PLAN),
        model="m",
        evaluation_digest=Digest(b"e" * 32),
        rounds_planned=9,
        state_digest=Digest(b"s" * 32),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def a_round(number: int, outcome: RoundOutcome | None, **changes: object) -> RoundRecord:
    record = RoundRecord(
        job_id=JobId("orders-1"),
        number=number,
        phase=RoundPhase.ENDED if outcome else RoundPhase.UPLOADING,
        outcome=outcome,
        started_at=NOW - 1000 + 100 * number,
        phase_seconds={RoundPhase.TRAINING: 40.0, RoundPhase.SHARING: 2.0},
        selected=(SiteId("a"), SiteId("b"), SiteId("c")),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def lead(*, live: bool = True) -> Lead:
    lease = Lease(
        name="rounds", holder="x", address="h:1", fence=1, taken_at=NOW - 100, until=NOW + (9 if live else -9)
    )
    return Lead(lease=lease, now=NOW)


def records(**parts: object) -> Records:
    values: dict[str, object] = {"sites": (), "tokens": (), "jobs": (job(),), "rounds": {}, "lead": lead()}
    return Records(**(values | parts))  # type: ignore[arg-type]


def presence(
    *online: str, resting: dict[str, str] | None = None, statuses: dict[str, SiteStatus] | None = None
) -> Presence:
    connected = {SiteId(name): STATUS for name in online} | {SiteId(n): s for n, s in (statuses or {}).items()}
    return Presence(
        online=connected,
        resting={SiteId(name): why for name, why in (resting or {}).items()},
        minimum_agent_version="",
        now=NOW,
    )


def facts_of(name: str, found: tuple[SiteFacts, ...]) -> SiteFacts:
    [one] = [each for each in found if each.name == name]
    return one


def test_why_each_site_has_no_part() -> None:
    running = a_round(
        3, None, dropped=(DropRecord(site=SiteId("b"), phase=RoundPhase.TRAINING, reason=DropReason.MEMORY),)
    )
    named = "t"
    token = TokenRecord(token_id=named, secret_hash=b"", site=SiteId("new"), created_at=NOW - 5, expires_at=NOW + 10)
    too_late = replace(token, site=SiteId("late"), expires_at=NOW - 1)
    sites = [site(name) for name in ("a", "b", "c", "away", "idle", "tired")] + [site("out", revoked_at=NOW - 5)]
    found = gather_sites(
        records(sites=sites, tokens=(token, too_late), rounds={JobId("orders-1"): [running]}),
        presence("a", "b", "c", "idle", "tired", resting={"tired": "rests from orders until round 5"}),
    )
    assert [each.name for each in found] == sorted(each.name for each in found)
    assert {each.name: each.absence for each in found} == {
        "a": None,
        "b": Absence.DROPPED,
        "c": None,
        "away": Absence.OFFLINE,
        "idle": Absence.NOT_SELECTED,
        "tired": Absence.RESTING,
        "out": Absence.REVOKED,
        "new": Absence.NOT_ENROLLED,
    }
    assert facts_of("b", found).drop_reason is DropReason.MEMORY
    assert facts_of("tired", found).note == "rests from orders until round 5"
    assert facts_of("out", found).state is SiteState.REVOKED


def test_nobody_is_absent_where_no_round_runs() -> None:
    ended = a_round(2, RoundOutcome.COMMITTED)
    found = gather_sites(records(sites=[site("z")], rounds={JobId("orders-1"): [ended]}), presence("z"))
    assert facts_of("z", found).absence is None


def test_a_site_shows_what_it_does_and_what_its_newest_round_gave_it() -> None:
    share = SiteRoundRecord(site=SiteId("a"), heads=12, ram_limit_bytes=1 << 30, peak_rss_bytes=600 << 20)
    older = a_round(1, RoundOutcome.COMMITTED, sites=(replace(share, heads=4),))
    newer = a_round(2, None, sites=(share,))
    beat = Heartbeat(
        process_id=b"p",
        activity=AgentActivity.TRAINING,
        round_number=2,
        done=3,
        total=12,
        rss_bytes=0,
        peak_rss_bytes=0,
    )
    found = gather_sites(
        records(sites=[site("a", last_seen=NOW - 500)], rounds={JobId("orders-1"): [older, newer]}),
        presence(statuses={"a": replace(STATUS, heartbeat=beat)}),
    )
    one = facts_of("a", found)
    assert (one.activity, one.share_done, one.heads, one.memory_bytes) == (AgentActivity.TRAINING, 0.25, 12, 600 << 20)
    assert one.last_seen == NOW - 1


def test_a_job_shows_its_course_and_its_newest_committed_heads() -> None:
    head, thin = BlockId(BlockKind.HEAD, 0, 0, 0), BlockId(BlockKind.HEAD, 0, 1, 0)
    dense = BlockId(BlockKind.DENSE, 0, 0, 0)
    rounds = [
        a_round(1, RoundOutcome.COMMITTED, accuracy=0.5, loss=1.0),
        a_round(2, RoundOutcome.TOO_FEW_SITES),
        a_round(
            3,
            RoundOutcome.COMMITTED,
            accuracy=0.6,
            loss=0.9,
            completed=(SiteId("a"), SiteId("b")),
            cohorts={head: 2, thin: 0, dense: 2},
            withheld=(thin, dense),
        ),
        a_round(4, None, deadline_at=NOW + 60),
    ]
    [shown] = gather_jobs(records(rounds={JobId("orders-1"): rounds}))
    assert [(each.number, each.accuracy) for each in shown.points] == [(1, 0.5), (3, 0.6)]
    assert shown.rounds_done == 3
    assert shown.running is not None
    assert (shown.running.number, shown.running.deadline_at) == (4, NOW + 60)
    coverage = shown.coverage
    assert coverage is not None
    assert (coverage.round_number, coverage.survivors) == (3, 2)
    assert coverage.matrices == tuple(matrix.name for matrix in PLAN.matrices)
    assert coverage.counts == {(0, 0): 2, (1, 0): 0}
    assert coverage.withheld == {(1, 0)}


@pytest.mark.parametrize(
    ("state", "live", "led"),
    [(JobState.RUNNING, True, True), (JobState.RUNNING, False, False), (JobState.COMPLETED, False, True)],
)
def test_only_what_still_goes_on_needs_somebody_to_lead_it(state: JobState, *, live: bool, led: bool) -> None:
    [shown] = gather_jobs(records(jobs=(job(state=state),), lead=lead(live=live)))
    assert shown.is_led is led


def test_running_jobs_are_shown_in_full_or_else_the_newest() -> None:
    running = [job(f"j{number}") for number in range(JOBS_IN_FULL + 2)]
    ended = [job("old", JobState.COMPLETED), job("older", JobState.STOPPED)]
    assert jobs_in_full([*running, *ended]) == tuple(running[:JOBS_IN_FULL])
    assert jobs_in_full(ended) == (ended[0],)
    assert jobs_in_full([]) == ()


def test_rounds_that_ended_are_events_newest_first() -> None:
    rounds = [
        a_round(1, RoundOutcome.COMMITTED, completed=(SiteId("a"),)),
        a_round(2, RoundOutcome.REFUSED),
        a_round(3, None),
    ]
    events = gather_events(records(rounds={JobId("orders-1"): rounds}))
    assert [(each.round_number, each.completed, each.selected) for each in events] == [(2, 0, 3), (1, 1, 3)]
    assert events[0].at == rounds[1].started_at + 42.0


def log(*kinds: AuditKind) -> list[AuditRecord]:
    position, found = START, []
    for number, kind in enumerate(kinds):
        entry = AuditEntry(kind=kind, actor="operator:mia:aa", subject=str(number), facts={})
        found.append(next_record(position, entry, round(NOW * 1000) + number))
        position = found[-1].position
    return found


def test_what_the_log_tells_beside_rounds_is_shown_newest_first() -> None:
    told = log(AuditKind.ENROLLED, AuditKind.ROUND_OPENED, AuditKind.JOB_PAUSED, AuditKind.ROUND_COMMITTED)
    foreign = replace(told[0], kind="coffee")
    deeds = gather_deeds([*told, foreign])
    assert [(each.kind, each.subject, each.actor) for each in deeds] == [
        (AuditKind.JOB_PAUSED, "2", "mia"),
        (AuditKind.ENROLLED, "0", "mia"),
    ]
    assert deeds[1].at == NOW
    assert len(gather_deeds(log(*[AuditKind.ENROLLED] * 50))) == DEEDS_SHOWN
