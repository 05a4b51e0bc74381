"""Kill sites at a chosen step of a round, from outside and with nothing but signals.

A round goes on as soon as nobody is awaited any more, in milliseconds where models are tiny. So another
site, the brake, is stopped (SIGSTOP) whenever a phase shall stay open: it is awaited and silent, until all
else is still and the victim's own log says where the victim stands. The victim is stopped there, the brake
goes on, the next phase opens and waits for the victim alone, and the victim is killed (SIGKILL).
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import psutil

from coordinator.operator_client import OperatorClient
from deploy.demo.plant import Plant
from ravan.wire.v1.operator_service_pb2 import Round
from ravan.wire.v1.round_pb2 import RoundPhase
from ravan.wire.v1.site_service_pb2 import AgentActivity

DEADLINE_S: Final = 300
"""Longest wait for anything; a machine that others use as well may be slow."""

POLL_S: Final = 0.05
STILL_SAMPLES: Final = 20
STILL_EVERY_S: Final = 0.05


class Step(Enum):
    """Where a site is killed, and what its log says of the round until then."""

    ADVERTISE = ("training",)
    """It trains; nobody has its round keys."""
    SHARE = ("training", "trained")
    """Its round keys are in the roster; it has shared nothing."""
    UPLOAD = ("training", "trained", "uploading")
    """All others hold its shares; part of its masked vector is with the coordinator."""
    REVEAL = ("training", "trained", "uploading", "uploaded")
    """Its masked vector counts, and it has signed the survivor set; it has revealed nothing."""


PHASE_OF: Final[Mapping[Step, RoundPhase.ValueType]] = {
    Step.ADVERTISE: RoundPhase.ROUND_PHASE_TRAINING,
    Step.SHARE: RoundPhase.ROUND_PHASE_SHARING,
    Step.UPLOAD: RoundPhase.ROUND_PHASE_UPLOADING,
    Step.REVEAL: RoundPhase.ROUND_PHASE_REVEALING,
}
"""Phase in which the coordinator misses who is killed there."""

_STEPS_OF_A_LOG: Final = {event for step in Step for event in step.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What is known of a killed site from outside."""

    site: str
    seen: tuple[str, ...]
    """Steps of the round in its own log, which ends with its death."""
    phase: RoundPhase.ValueType
    """The coordinator's phase just before."""
    done: int = 0
    total: int = 0
    """Bytes of its upload, as the coordinator had them from its last sign of life."""


@dataclass(kw_only=True)
class Stage:
    """A plant on which one job runs."""

    plant: Plant
    client: OperatorClient
    job_id: str
    brake: str
    kills: dict[int, dict[Step, Kill]] = field(default_factory=dict)
    """By round."""

    def __post_init__(self) -> None:
        # An earlier job's rounds had the same numbers.
        self._before = {name: len(self._lines(name)) for name in self.plant.sites}

    async def perform(self, number: int, victims: Mapping[Step, str]) -> Round:
        """Wait for a round, kill the victims at their steps, start them again, and return the round as it ended.

        Only who uploads slowly can be killed in mid-upload; it also keeps the phase open in which the brake stops.
        """
        self.kills[number] = {}
        await self.await_phase(number, RoundPhase.ROUND_PHASE_TRAINING)
        if Step.SHARE in victims:
            await self._stop_in_training(self.brake, number)
        for step, act in (
            (Step.ADVERTISE, self._kill_in_training),
            (Step.SHARE, self._kill_before_sharing),
            (Step.UPLOAD, self._kill_in_upload),
            (Step.REVEAL, self._kill_before_revealing),
        ):
            if step is Step.UPLOAD and Step.REVEAL in victims:
                await self._stop_after_upload(self.brake, number, victims[Step.REVEAL])
            if step in victims:
                await act(victims[step], number)
        ended = await self.await_phase(number, RoundPhase.ROUND_PHASE_ENDED)
        for name in victims.values():
            self.plant.start_site(self.plant.sites[name].settings)
        return ended

    async def await_phase(self, number: int, phase: RoundPhase.ValueType) -> Round:
        """Wait until a round is in this phase; fail at once when it has passed it."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            now = await self._round(number)
            if now is not None and now.phase >= phase:
                wanted, found = RoundPhase.Name(phase), RoundPhase.Name(now.phase)
                assert now.phase == phase, f"round {number} went past {wanted} to {found}: {now}"
                return now
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"round {number} never came to {RoundPhase.Name(phase)}")

    # Steps

    async def _kill_in_training(self, victim: str, number: int) -> None:
        await self._await(lambda: "training" in self._seen(victim, number), f"training at {victim}")
        await self._kill(victim, number, Step.ADVERTISE)

    async def _kill_before_sharing(self, victim: str, number: int) -> None:
        running = [name for name, site in self.plant.sites.items() if site.process.poll() is None]
        trainers = set(running) - {self.brake}
        await self._await(lambda: all("trained" in self._seen(n, number) for n in trainers), f"{trainers} trained")
        await self._await_stillness()
        self._signal(victim, signal.SIGSTOP)
        self._signal(self.brake, signal.SIGCONT)
        await self._kill(victim, number, Step.SHARE)

    async def _kill_in_upload(self, victim: str, number: int) -> None:
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            (site,) = await self.client.list_sites(victim)
            beat = site.heartbeat
            busy = beat.activity == AgentActivity.AGENT_ACTIVITY_UPLOADING and beat.round == number
            if busy and 0 < beat.done < beat.total:
                await self._kill(victim, number, Step.UPLOAD, done=beat.done, total=beat.total)
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{victim} was never seen in mid-upload")

    async def _kill_before_revealing(self, victim: str, number: int) -> None:
        await self.await_phase(number, RoundPhase.ROUND_PHASE_CONFIRMING)
        await self._await_stillness()
        self._signal(victim, signal.SIGSTOP)
        self._signal(self.brake, signal.SIGCONT)
        await self._kill(victim, number, Step.REVEAL)

    async def _stop_in_training(self, name: str, number: int) -> None:
        await self._await(lambda: "training" in self._seen(name, number), f"training at {name}")
        self._signal(name, signal.SIGSTOP)
        assert self._seen(name, number) == ("training",), f"{name} had trained before it was stopped"

    async def _stop_after_upload(self, name: str, number: int, victim: str) -> None:
        both = (name, victim)
        await self._await(lambda: all("uploaded" in self._seen(n, number) for n in both), f"uploads of {both}")
        self._signal(name, signal.SIGSTOP)
        now = await self._round(number)
        assert now is not None
        assert now.phase == RoundPhase.ROUND_PHASE_UPLOADING, f"{name} was stopped too late"

    async def _kill(self, victim: str, number: int, step: Step, *, done: int = 0, total: int = 0) -> None:
        now = await self.await_phase(number, PHASE_OF[step])
        self.plant.kill_site(victim)
        seen = self._seen(victim, number)
        self.kills[number][step] = Kill(site=victim, seen=seen, phase=now.phase, done=done, total=total)

    # What is seen from outside

    async def _round(self, number: int) -> Round | None:
        rounds: Sequence[Round] = (await self.client.get_job(self.job_id)).rounds
        return next((each for each in rounds if each.number == number), None)

    def _seen(self, name: str, number: int) -> tuple[str, ...]:
        """Return the steps of a round in a site's log, in order; a line of progress repeats its step."""
        entries = map(_parse, self._lines(name)[self._before.get(name, 0) :])
        events = (str(entry.get("event")) for entry in entries if entry.get("round") == number)
        return tuple(dict.fromkeys(event for event in events if event in _STEPS_OF_A_LOG))

    def _lines(self, name: str) -> list[str]:
        return _read(self.plant.log(f"site-{name}")).splitlines()

    def _signal(self, name: str, number: signal.Signals) -> None:
        self.plant.sites[name].process.send_signal(number)

    async def _await(self, look: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not look():
            assert time.monotonic() < end, f"waited {DEADLINE_S} s in vain for {what}"
            await asyncio.sleep(POLL_S)

    async def _await_stillness(self) -> None:
        """Wait until for a second no thread of the plant ran or wanted to: whatever was sent has been answered."""
        still, end = 0, time.monotonic() + DEADLINE_S
        while still < STILL_SAMPLES:
            still = still + 1 if not _is_anything_busy() else 0
            assert time.monotonic() < end, "the plant was never still"
            await asyncio.sleep(STILL_EVERY_S)


def _is_anything_busy() -> bool:
    for process in psutil.Process().children(recursive=True):
        for status in Path(f"/proc/{process.pid}/task").glob("*/stat"):
            # The name before the state may hold anything, also brackets.
            state = _read(status).rpartition(")")[2].split()[:1]
            if state in (["R"], ["D"]):
                return True
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _parse(line: str) -> dict[str, object]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
