"""Lines that tell what the demo is doing, at least every two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from ravan.wire.v1.operator_service_pb2 import Job, Site
from ravan.wire.v1.round_pb2 import RoundOutcome, RoundPhase
from ravan.wire.v1.site_service_pb2 import AgentActivity

EVERY_S = 2.0

Value = TypeVar("Value")

_SHORT = {
    AgentActivity.AGENT_ACTIVITY_IDLE: "idle",
    AgentActivity.AGENT_ACTIVITY_DOWNLOADING: "downloading",
    AgentActivity.AGENT_ACTIVITY_MEASURING: "measuring",
    AgentActivity.AGENT_ACTIVITY_TRAINING: "training",
    AgentActivity.AGENT_ACTIVITY_MASKING: "masking",
    AgentActivity.AGENT_ACTIVITY_UPLOADING: "uploading",
    AgentActivity.AGENT_ACTIVITY_PAUSED: "paused",
}


def phase_name(phase: RoundPhase.ValueType) -> str:
    """Return the name that reports and metrics use."""
    return RoundPhase.Name(phase).removeprefix("ROUND_PHASE_").lower()


class Narrator:
    """Print what changed, with seconds since the demo began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last_line = 0.0
        self._told_rounds = 0

    @property
    def seconds(self) -> float:
        """Return seconds since the demo began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one line at once."""
        self._last_line = time.monotonic()
        print(f"[{self.seconds:5.0f} s] {text}", flush=True)

    async def during(self, work: Awaitable[Value], doing: str) -> Value:
        """Wait for work, and say every two seconds that it goes on."""
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait([task], timeout=EVERY_S))[0]:
            self.say(f"{doing} ...")
        return task.result()

    def observe(self, job: Job, sites: Sequence[Site]) -> None:
        """Print rounds that ended, and every two seconds where things stand."""
        ended = [r for r in job.rounds if r.phase == RoundPhase.ROUND_PHASE_ENDED]
        for number in range(self._told_rounds, len(ended)):
            self._tell_round(job, number)
        self._told_rounds = len(ended)
        if time.monotonic() - self._last_line >= EVERY_S:
            self.say(f"{job.name}: {_where(job)} · {'  '.join(map(_site, sites))}")

    def forget_job(self) -> None:
        """Begin anew with another job."""
        self._told_rounds = 0

    def _tell_round(self, job: Job, index: int) -> None:
        done = job.rounds[index]
        outcome = RoundOutcome.Name(done.outcome).removeprefix("ROUND_OUTCOME_").lower()
        text = f"{job.name}: round {done.number}/{job.rounds_planned} {outcome}, {len(done.completed)} sites"
        if done.HasField("accuracy"):
            text += f", accuracy {done.accuracy:.3f}, loss {done.loss:.3f}"
        if done.dropped:
            text += ", missed " + ", ".join(f"{d.site} in {phase_name(d.phase)}" for d in done.dropped)
        if done.withheld:
            text += f", {len(done.withheld)} heads withheld"
        self.say(text)


def _where(job: Job) -> str:
    if job.rounds and job.rounds[-1].phase != RoundPhase.ROUND_PHASE_ENDED:
        return f"round {job.rounds[-1].number}/{job.rounds_planned} {phase_name(job.rounds[-1].phase)}"
    return job.message or ("between rounds" if job.rounds else "the sites prepare")


def _site(site: Site) -> str:
    beat = site.heartbeat
    text = f"{site.name} {_SHORT.get(beat.activity, 'offline')}"
    if beat.total and beat.activity == AgentActivity.AGENT_ACTIVITY_TRAINING:
        text += f" {beat.done}/{beat.total}"
    elif beat.total:
        text += f" {100 * beat.done // beat.total}%"
    return text
