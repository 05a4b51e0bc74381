"""Stored records as operators see them: conversion to the messages of the operator service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coordinator.fleet.holding import find_hold
from coordinator.fleet.status import SiteStatus, state_of
from coordinator.leases.lease import Lead
from coordinator.status.facts import DeedFacts
from coordinator.store.records import JobRecord, ModelRecord, RoundRecord, SiteRecord, SiteRoundRecord
from coordinator.work.tasks import OPEN_TASKS, Task, TaskKind
from ravan.codec import enums
from ravan.codec.profiles import hardware_to_wire, heartbeat_to_wire
from ravan.codec.references import document_to_wire, file_to_wire
from ravan.ids import SiteId
from ravan.manifest.phases import ENDED_JOBS, SiteState
from ravan.wire.v1 import operator_service_pb2 as wire

_TASK_KINDS: Final = {
    TaskKind.UNMASK: wire.WORK_KIND_UNMASK,
    TaskKind.COMBINE: wire.WORK_KIND_COMBINE,
    TaskKind.WEIGH: wire.WORK_KIND_WEIGH,
    TaskKind.EVALUATE: wire.WORK_KIND_EVALUATE,
}


def site_view(
    site: SiteRecord, status: SiteStatus | None, resting: str = "", minimum_agent_version: str = ""
) -> wire.Site:
    """Show an enrolled site; `resting` says from which jobs it rests."""
    view = wire.Site(
        name=site.name,
        state=enums.SITE_STATE.to_wire(state_of(site, status)),
        last_seen=max(site.last_seen, status.last_seen if status is not None else 0.0),
        certificate_expires_at=site.certificate_expires_at,
        endorsed=bool(site.endorsement),
        resting=resting,
    )
    hardware = status.hardware if status is not None and status.hardware is not None else site.hardware
    if hardware is not None:
        view.hardware.CopyFrom(hardware_to_wire(hardware))
        hold = find_hold(hardware, minimum_agent_version)
        if hold is not None and site.revoked_at is None:
            view.hold_reason, view.held_back = enums.HOLD_REASON.to_wire(hold.reason), str(hold)
    if status is not None and status.heartbeat is not None:
        view.heartbeat.CopyFrom(heartbeat_to_wire(status.heartbeat))
    return view


def invited_view(site: SiteId) -> wire.Site:
    """Show a site for which there is a token and nothing else."""
    return wire.Site(name=site, state=enums.SITE_STATE.to_wire(SiteState.INVITED))


def deed_view(deed: DeedFacts) -> wire.Deed:
    """Show something that the audit log tells."""
    return wire.Deed(at=deed.at, kind=deed.kind.value, subject=deed.subject, actor=deed.actor)


def model_view(model: ModelRecord) -> wire.Model:
    """Show a base model."""
    return wire.Model(
        name=model.name,
        files=[file_to_wire(file) for file in model.files],
        digest=model.digest,
        model_type=model.model_type,
        parameters=model.parameters,
    )


def lead_view(lead: Lead) -> wire.Lead:
    """Show who runs jobs and rounds."""
    lease = lead.lease
    return wire.Lead(
        live=lead.is_live,
        holder=lease.holder if lease is not None else "",
        address=lease.address if lease is not None else "",
        since=lead.since,
        until=lease.until if lease is not None and lead.is_live else 0.0,
    )


def task_view(task: Task, now: float) -> wire.Work:
    """Show heavy work that is not done; a holder whose time has run out holds nothing."""
    held = task.is_held(now)
    return wire.Work(
        kind=_TASK_KINDS[task.kind],
        holder=task.holder if held else "",
        since=task.taken_at if held else max(task.put_at, min(task.until, now)),
        until=task.until if held else 0.0,
        attempts=task.attempts,
    )


def job_summary(job: JobRecord, lead: Lead, ready_sites: Sequence[SiteId] = ()) -> wire.Job:
    """Show a job without its rounds and documents."""
    view = wire.Job(
        job_id=job.job_id,
        name=job.name,
        state=enums.JOB_STATE.to_wire(job.state),
        message=job.message,
        submitted_at=job.submitted_at,
        rounds_planned=job.rounds_planned,
        model=job.model,
        accuracy_before=job.accuracy_before,
        accuracy=job.accuracy,
        state_digest=job.state_digest,
        ready_sites=ready_sites,
    )
    if job.state not in ENDED_JOBS:
        view.lead.CopyFrom(lead_view(lead))
    return view


def job_view(
    job: JobRecord,
    rounds: Sequence[RoundRecord],
    lead: Lead,
    *,
    ready_sites: Sequence[SiteId],
    awaited: Sequence[SiteId],
    tasks: Sequence[Task] = (),
) -> wire.Job:
    """Show a job with everything."""
    view = job_summary(job, lead, ready_sites)
    view.tasks.extend(task_view(task, lead.now) for task in tasks if task.state in OPEN_TASKS)
    view.rounds.extend(round_view(record) for record in rounds)
    if rounds and rounds[-1].outcome is None:
        view.rounds[-1].awaited.extend(awaited)
    view.plan.CopyFrom(document_to_wire(job.plan))
    view.job_toml = job.job_toml
    view.evaluation_digest = job.evaluation_digest
    return view


def round_view(record: RoundRecord) -> wire.Round:
    """Show one round."""
    view = wire.Round(
        number=record.number,
        phase=enums.ROUND_PHASE.to_wire(record.phase),
        phase_times=[
            wire.PhaseTime(phase=enums.ROUND_PHASE.to_wire(phase), seconds=seconds)
            for phase, seconds in record.phase_seconds.items()
        ],
        selected=record.selected,
        completed=record.completed,
        dropped=[
            wire.Drop(
                site=drop.site,
                phase=enums.ROUND_PHASE.to_wire(drop.phase),
                reason=enums.DROP_REASON.to_wire(drop.reason),
            )
            for drop in record.dropped
        ],
        sites=[_site_round_view(site) for site in record.sites],
        cohorts=[
            wire.HeadCohort(block_id=block.pack(), survivors=n, score=record.scores.get(block))
            for block, n in record.cohorts.items()
        ],
        withheld=[block.pack() for block in record.withheld],
        accuracy=record.accuracy,
        loss=record.loss,
        clip_rate=record.clip_rate,
        training_loss=record.training_loss,
        state_digest=record.state_digest,
        sums_digest=record.sums_digest,
        started_at=record.started_at,
        deadline_at=record.deadline_at,
    )
    if record.outcome is None:
        view.phase_began_at = record.started_at + sum(record.phase_seconds.values())
    else:
        view.outcome = enums.ROUND_OUTCOME.to_wire(record.outcome)
    return view


def _site_round_view(site: SiteRoundRecord) -> wire.SiteRound:
    return wire.SiteRound(
        site=site.site,
        heads=site.heads,
        upload_bytes=site.upload_bytes,
        peak_rss_bytes=site.peak_rss_bytes,
        extra_peak_bytes=site.extra_peak_bytes,
        step_cpu_s=site.step_cpu_s,
        ram_limit_bytes=site.ram_limit_bytes,
    )
