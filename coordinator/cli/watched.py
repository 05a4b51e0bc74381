"""From what an operator is shown of a job back to the facts that the status page shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.cli.absence import absence_of, unfinished
from coordinator.cli.tables import has_ended, site_state
from coordinator.status.facts import JobFacts, SiteFacts
from coordinator.status.gathering import add_part, job_facts
from coordinator.store.records import DropRecord, JobRecord, RoundRecord, SiteRoundRecord
from ravan.codec import enums, fields
from ravan.ids import Digest, JobId, SiteId
from ravan.manifest.documents import SignedDocument
from ravan.manifest.phases import SiteState
from ravan.wire.v1 import operator_service_pb2 as wire


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFacts:
    """One view of a job."""

    job: JobFacts
    sites: tuple[SiteFacts, ...]
    """By name, with what keeps each from this job's round."""


def read_watched(view: wire.WatchJobResponse) -> WatchedFacts:
    """Return the facts of a view; raise ProtocolError (MALFORMED) for what no coordinator sends."""
    job, shown = _job(view.job), view.job
    rounds = [_round(job.job_id, each) for each in shown.rounds]
    shares = {share.site: share for each in rounds[-1:] for share in each.sites}
    running = unfinished(shown)
    return WatchedFacts(
        job=job_facts(job, rounds, is_led=has_ended(shown) or not shown.HasField("lead") or shown.lead.live),
        sites=tuple(_site(site, shares.get(SiteId(site.name)), running) for site in view.sites),
    )


def _job(view: wire.Job) -> JobRecord:
    return JobRecord(
        job_id=JobId(view.job_id),
        name=view.name,
        state=enums.JOB_STATE.from_wire(view.state),
        message=view.message,
        submitted_at=view.submitted_at,
        request_id="",  # no operator is shown another's
        job_toml=view.job_toml,
        plan=SignedDocument(payload=view.plan.payload, signature=view.plan.signature),
        model=view.model,
        evaluation_digest=Digest(view.evaluation_digest),
        rounds_planned=view.rounds_planned,
        state_digest=Digest(view.state_digest),
        accuracy_before=view.accuracy_before if view.HasField("accuracy_before") else None,
        accuracy=view.accuracy if view.HasField("accuracy") else None,
    )


def _round(job_id: JobId, view: wire.Round) -> RoundRecord:
    """Read what the facts are made of; clips and digests are not."""
    return RoundRecord(
        job_id=job_id,
        number=view.number,
        phase=enums.ROUND_PHASE.from_wire(view.phase),
        outcome=enums.ROUND_OUTCOME.from_wire_or_none(view.outcome),
        started_at=view.started_at,
        deadline_at=view.deadline_at,
        selected=tuple(map(SiteId, view.selected)),
        completed=tuple(map(SiteId, view.completed)),
        dropped=tuple(map(_drop, view.dropped)),
        sites=tuple(map(_share, view.sites)),
        cohorts={fields.block(each.block_id): each.survivors for each in view.cohorts},
        withheld=tuple(map(fields.block, view.withheld)),
        accuracy=view.accuracy if view.HasField("accuracy") else None,
        loss=view.loss if view.HasField("loss") else None,
    )


def _drop(view: wire.Drop) -> DropRecord:
    return DropRecord(
        site=SiteId(view.site),
        phase=enums.ROUND_PHASE.from_wire(view.phase),
        reason=enums.DROP_REASON.from_wire(view.reason),
    )


def _share(view: wire.SiteRound) -> SiteRoundRecord:
    return SiteRoundRecord(
        site=SiteId(view.site),
        heads=view.heads,
        ram_limit_bytes=view.ram_limit_bytes,
        peak_rss_bytes=view.peak_rss_bytes,
    )


def _site(view: wire.Site, share: SiteRoundRecord | None, running: list[wire.Round]) -> SiteFacts:
    beat = view.heartbeat if view.HasField("heartbeat") else None
    facts = SiteFacts(
        name=view.name,
        state=SiteState(site_state(view)),
        last_seen=view.last_seen,
        activity=None if beat is None else enums.AGENT_ACTIVITY.from_wire(beat.activity),
        share_done=beat.done / beat.total if beat is not None and beat.total else None,
    )
    return add_part(facts, share, absence_of(view, running))
