"""Why a site has no part in any round that runs, from what operators are shown."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.cli.tables import has_ended, site_state
from coordinator.operator_client import OperatorClient
from coordinator.status.absence import AbsenceReason, RunningRound, Whereabouts, find_absence
from coordinator.status.facts import Absence
from ravan.codec import enums
from ravan.manifest.phases import SiteState
from ravan.wire.v1 import operator_service_pb2 as wire


async def running_rounds(client: OperatorClient) -> list[wire.Round]:
    """Return the rounds of all jobs that have not ended."""
    jobs = [await client.get_job(job.job_id) for job in await client.list_jobs() if not has_ended(job)]
    return [each for job in jobs for each in unfinished(job)]


def unfinished(job: wire.Job) -> list[wire.Round]:
    """Return the round of a job that runs, if one does."""
    return [each for each in job.rounds[-1:] if not each.outcome]


def absence_of(site: wire.Site, running: Sequence[wire.Round]) -> AbsenceReason | None:
    """Return why a site does nothing for any of these rounds; None where it takes part in one, or none runs."""
    shown = Whereabouts(
        name=site.name, state=SiteState(site_state(site)), held_back=site.held_back, resting=site.resting
    )
    return find_absence(shown, [_running_round(each) for each in running])


def describe_absence(site: wire.Site, running: Sequence[wire.Round]) -> str:
    """Return why a site does nothing for any of these rounds; empty where it takes part in one."""
    reason = absence_of(site, running)
    if reason is None:
        return "" if running else "no round runs"
    numbers = ", ".join(map(str, reason.rounds))
    if reason.drop_reason is not None:
        return f"left round {numbers} ({reason.drop_reason.value})"
    return {
        Absence.NOT_ENROLLED: "has not enrolled",
        Absence.NOT_SELECTED: f"not selected for round {numbers}",
    }.get(reason.absence, reason.note or reason.absence.value)


def _running_round(each: wire.Round) -> RunningRound:
    drops = {drop.site: enums.DROP_REASON.from_wire(drop.reason) for drop in each.dropped}
    return RunningRound(number=each.number, selected=set(each.selected), drops=drops)
