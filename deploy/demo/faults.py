"""Kill one site's agent at chosen moments, from outside, and start it again once it was missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.demo.plant import Plant
from ravan.wire.v1.operator_service_pb2 import Job, Round, Site
from ravan.wire.v1.site_service_pb2 import AgentActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Kill `site` when it is in the middle of `activity`, in `first_round` or a later one."""

    site: str
    first_round: int
    activity: AgentActivity.ValueType


class Saboteur:
    """Carry out faults one after the other, by what the coordinator's status shows."""

    def __init__(self, plant: Plant, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
        self._plant, self._say = plant, say
        self._waiting = list(faults)
        self._killed: tuple[str, int] | None = None
        self.carried_out: list[tuple[str, int]] = []

    def observe(self, job: Job, sites: Sequence[Site]) -> None:
        """Look at the newest status and act."""
        if not job.rounds:
            return
        now = job.rounds[-1]
        if self._killed is not None:
            self._restart_when_missed(job)
        elif self._waiting and now.number >= self._waiting[0].first_round:
            self._kill_when_busy(now, sites)

    def _kill_when_busy(self, now: Round, sites: Sequence[Site]) -> None:
        fault = self._waiting[0]
        beat = next((site.heartbeat for site in sites if site.name == fault.site), None)
        if beat is None or fault.site not in now.selected:
            return
        if beat.round == now.number and beat.activity == fault.activity and 0 < beat.done < beat.total:
            self._plant.kill_site(fault.site)
            doing = AgentActivity.Name(fault.activity).removeprefix("AGENT_ACTIVITY_").lower()
            self._say(f"round {now.number}: killed site {fault.site} while {doing} ({beat.done} of {beat.total})")
            self._killed = (fault.site, now.number)
            self.carried_out.append(self._killed)
            del self._waiting[0]

    def _restart_when_missed(self, job: Job) -> None:
        if self._killed is None:
            return
        name, number = self._killed
        killed_in = next(r for r in job.rounds if r.number == number)
        if any(drop.site == name for drop in killed_in.dropped):
            self._plant.start_site(self._plant.sites[name].settings)
            self._say(f"round {number}: the coordinator missed site {name}; its PC is switched on again")
            self._killed = None
