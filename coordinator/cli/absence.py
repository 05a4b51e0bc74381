"""Why a site has no part in any round that runs, from what operators are shown."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.cli.tables import has_ended, site_state
from coordinator.operator_client import OperatorClient
from ravan.codec import enums
from ravan.manifest.phases import SiteState
from ravan.wire.v1 import operator_service_pb2 as wire


async def running_rounds(client: OperatorClient) -> list[wire.Round]:
    """Return the rounds of all jobs that have not ended."""
    jobs = [await client.get_job(job.job_id) for job in await client.list_jobs() if not has_ended(job)]
    return [job.rounds[-1] for job in jobs if job.rounds and not job.rounds[-1].outcome]


def describe_absence(site: wire.Site, running: Sequence[wire.Round]) -> str:
    """Return why a site does nothing for any of these rounds; empty where it takes part in one."""
    state = site_state(site)
    if state != SiteState.ONLINE:
        return {SiteState.INVITED: "has not enrolled"}.get(SiteState(state), state)
    if site.held_back or site.resting:
        return site.held_back or site.resting
    if not running:
        return "no round runs"
    drops = {drop.site: (each.number, drop.reason) for each in running for drop in each.dropped}
    taking_part = [each for each in running if site.name in each.selected]
    if any(all(drop.site != site.name for drop in each.dropped) for each in taking_part):
        return ""
    if site.name in drops:
        number, reason = drops[site.name]
        return f"left round {number} ({enums.DROP_REASON.from_wire(reason).value})"
    return f"not selected for round {', '.join(str(each.number) for each in running)}"
