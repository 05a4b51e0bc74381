"""From records and connections to what the status page shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from coordinator.audit.chain import AuditKind, AuditRecord
from coordinator.fleet.holding import find_hold
from coordinator.fleet.status import SiteStatus, invited_sites, state_of
from coordinator.leases.lease import Lead
from coordinator.status.absence import AbsenceReason, RunningRound, Whereabouts, find_absence
from coordinator.status.facts import (
    Absence,
    CoverageFacts,
    DeedFacts,
    EventFacts,
    JobFacts,
    PointFacts,
    RoundFacts,
    SiteFacts,
)
from coordinator.store.records import JobRecord, RoundRecord, SiteRecord, SiteRoundRecord, TokenRecord
from ravan.codec.plans import decode_plan
from ravan.ids import BlockKind, JobId, SiteId
from ravan.manifest.phases import ENDED_JOBS, RoundOutcome, SiteState

EVENTS_SHOWN: Final = 20
DEEDS_SHOWN: Final = 12

OF_ROUNDS: Final = frozenset(
    {
        AuditKind.ROUND_OPENED,
        AuditKind.ROSTER_SIGNED,
        AuditKind.SURVIVORS_CHOSEN,
        AuditKind.ROUND_COMMITTED,
        AuditKind.ROUND_ENDED,
    }
)
"""Kinds that the list of rounds shows better."""

JOBS_SHOWN: Final = 20
JOBS_IN_FULL: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What is stored, at one moment."""

    sites: Sequence[SiteRecord]
    tokens: Sequence[TokenRecord]
    jobs: Sequence[JobRecord]
    """Newest first."""
    rounds: Mapping[JobId, Sequence[RoundRecord]]
    """By number, of those jobs that are shown in full."""
    lead: Lead
    log: Sequence[AuditRecord] = ()
    """Newest records of the audit log, by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What is known beside the records: who is connected, and who rests with which sentence."""

    online: Mapping[SiteId, SiteStatus]
    resting: Mapping[SiteId, str]
    minimum_agent_version: str
    now: float


def jobs_in_full(jobs: Iterable[JobRecord]) -> tuple[JobRecord, ...]:
    """Return the jobs that are shown with curves: those that run, or the newest where none does."""
    every = tuple(jobs)
    going_on = tuple(job for job in every if job.state not in ENDED_JOBS)
    return going_on[:JOBS_IN_FULL] or every[:1]


def gather_jobs(records: Records) -> tuple[JobFacts, ...]:
    """Return the newest jobs."""
    return tuple(
        job_facts(job, records.rounds.get(job.job_id, ()), is_led=job.state in ENDED_JOBS or records.lead.is_live)
        for job in records.jobs[:JOBS_SHOWN]
    )


def gather_sites(records: Records, presence: Presence) -> tuple[SiteFacts, ...]:
    """Return every site by name, those that are only invited too."""
    newest = [rounds[-1] for rounds in records.rounds.values() if rounds]
    running = [_running_round(each) for each in newest if each.outcome is None]
    shares = {share.site: share for each in sorted(newest, key=lambda each: each.started_at) for share in each.sites}
    sites = [_site(site, shares.get(site.name), running, presence) for site in records.sites]
    sites += [
        SiteFacts(name=name, state=SiteState.INVITED, absence=Absence.NOT_ENROLLED)
        for name in invited_sites(records.tokens, records.sites, presence.now)
    ]
    return tuple(sorted(sites, key=lambda site: site.name))


def gather_events(records: Records) -> tuple[EventFacts, ...]:
    """Return the rounds that ended last."""
    names = {job.job_id: job.name for job in records.jobs}
    ended = (
        _event(names[job_id], each, each.outcome)
        for job_id, rounds in records.rounds.items()
        for each in rounds
        if each.outcome is not None
    )
    return tuple(sorted(ended, key=lambda event: -event.at)[:EVENTS_SHOWN])


def gather_deeds(log: Sequence[AuditRecord]) -> tuple[DeedFacts, ...]:
    """Return what the audit log tells beside rounds; a record that is not as we write them is left to the verifier."""
    deeds = (_deed(record) for record in reversed(log) if record.kind in set(AuditKind) - OF_ROUNDS)
    return tuple(islice(deeds, DEEDS_SHOWN))


def _deed(record: AuditRecord) -> DeedFacts:
    _, _, rest = record.actor.partition(":")
    return DeedFacts(
        at=record.at_ms / 1000, kind=AuditKind(record.kind), subject=record.subject, actor=rest.partition(":")[0]
    )


def job_facts(job: JobRecord, rounds: Sequence[RoundRecord], *, is_led: bool) -> JobFacts:
    """Return one job, from its rounds by number; without its plan nothing is said of heads."""
    committed = [each for each in rounds if each.outcome is RoundOutcome.COMMITTED]
    return JobFacts(
        job_id=job.job_id,
        name=job.name,
        state=job.state,
        is_led=is_led,
        message=job.message,
        rounds_planned=job.rounds_planned,
        rounds_done=sum(each.outcome is not None for each in rounds),
        accuracy_before=job.accuracy_before,
        accuracy=job.accuracy,
        running=_running(rounds[-1]) if rounds and rounds[-1].outcome is None else None,
        points=tuple(PointFacts(number=each.number, accuracy=each.accuracy, loss=each.loss) for each in committed),
        coverage=_coverage(job, committed[-1]) if committed and job.plan.payload else None,
    )


def _running(record: RoundRecord) -> RoundFacts:
    return RoundFacts(
        number=record.number,
        phase=record.phase,
        deadline_at=record.deadline_at,
        selected=len(record.selected),
        dropped=len(record.dropped),
    )


def _coverage(job: JobRecord, record: RoundRecord) -> CoverageFacts:
    plan = decode_plan(job.plan.payload)
    heads = {block: count for block, count in record.cohorts.items() if block.kind is BlockKind.HEAD}
    return CoverageFacts(
        round_number=record.number,
        survivors=len(record.completed),
        matrices=tuple(matrix.name for matrix in plan.matrices),
        heads=plan.adapter.heads,
        counts={(block.matrix, block.index): count for block, count in heads.items()},
        withheld=frozenset((block.matrix, block.index) for block in record.withheld if block.kind is BlockKind.HEAD),
    )


def _site(
    site: SiteRecord, share: SiteRoundRecord | None, running: Sequence[RunningRound], presence: Presence
) -> SiteFacts:
    status = presence.online.get(site.name)
    beat = status.heartbeat if status is not None else None
    reason = find_absence(_whereabouts(site, status, presence), running)
    facts = SiteFacts(
        name=site.name,
        state=state_of(site, status),
        last_seen=max(site.last_seen, status.last_seen if status is not None else 0.0),
        activity=None if beat is None else beat.activity,
        share_done=beat.done / beat.total if beat is not None and beat.total else None,
    )
    return add_part(facts, share, reason)


def add_part(site: SiteFacts, share: SiteRoundRecord | None, reason: AbsenceReason | None) -> SiteFacts:
    """Return what is known of a site now with its part in the newest round, and why it has none in what runs."""
    if share is not None:
        site = replace(site, heads=share.heads, memory_bytes=share.peak_rss_bytes)
    if reason is not None:
        site = replace(site, absence=reason.absence, drop_reason=reason.drop_reason, note=reason.note)
    return site


def _running_round(record: RoundRecord) -> RunningRound:
    drops = {str(drop.site): drop.reason for drop in record.dropped}
    return RunningRound(number=record.number, selected=record.selected, drops=drops)


def _whereabouts(site: SiteRecord, status: SiteStatus | None, presence: Presence) -> Whereabouts:
    hardware = status.hardware if status is not None and status.hardware is not None else site.hardware
    hold = find_hold(hardware, presence.minimum_agent_version) if hardware is not None else None
    return Whereabouts(
        name=site.name,
        state=state_of(site, status),
        held_back="" if hold is None else str(hold),
        resting=presence.resting.get(site.name, ""),
    )


def _event(job: str, record: RoundRecord, outcome: RoundOutcome) -> EventFacts:
    return EventFacts(
        at=record.started_at + sum(record.phase_seconds.values()),
        job=job,
        round_number=record.number,
        outcome=outcome,
        completed=len(record.completed),
        selected=len(record.selected),
        drops=tuple((drop.site, drop.reason) for drop in record.dropped),
    )
