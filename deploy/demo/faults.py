"""Kill a site's agent or the coordinator at chosen moments, from outside, and start it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.demo.plant import Plant
from deploy.demo.progress import Narrator, phase_name
from ravan.wire.v1.operator_service_pb2 import Job, Round, Site
from ravan.wire.v1.round_pb2 import RoundPhase
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCut:
    """Kill the coordinator in `phase` of `first_round` or of a later one."""

    first_round: int
    phase: RoundPhase.ValueType


class PowerCuts:
    """Kill the coordinator by what its own status shows, and switch it on again at once."""

    def __init__(self, plant: Plant, cuts: Sequence[PowerCut], narrator: Narrator) -> None:
        self._plant, self._narrator = plant, narrator
        self._waiting = list(cuts)
        self.carried_out: list[tuple[int, RoundPhase.ValueType]] = []

    async def observe(self, job: Job, sites: Sequence[Site]) -> None:  # noqa: ARG002 - as every observer
        """Look at the newest status; return once the coordinator is ready again."""
        if not self._waiting or not job.rounds:
            return
        cut, now = self._waiting[0], job.rounds[-1]
        if now.number < cut.first_round or now.phase != cut.phase:
            return
        self._plant.kill_coordinator()
        del self._waiting[0]
        self.carried_out.append((now.number, now.phase))
        self._narrator.say(f"round {now.number}: killed the coordinator in phase {phase_name(now.phase)}")
        starting = asyncio.to_thread(self._plant.start_coordinator)
        await self._narrator.during(starting, "the coordinator's PC is switched on again")
        self._narrator.say(f"round {now.number}: the coordinator is back")
