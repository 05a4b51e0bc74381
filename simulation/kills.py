"""Kill the coordinator in a chosen state of a round, from outside and with nothing but signals.

Phases in which sites answer are kept open by one site that is held. States that last no longer than a step of the
coordinator are met by stopping it (SIGSTOP) and looking at what it has stored and said: if that is the state, it is
killed there, and else it goes on and the next round is tried.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.rounds.states import COLLECTING, PHASE_OF, RoundState
from coordinator.rounds.transitions import TRANSITIONS
from ravan.manifest.phases import RoundOutcome
from simulation.book import Standing
from simulation.scene import Scene
from simulation.steps import Step

STATES: Final = tuple(state for state in RoundState if any(state is each for each, _ in TRANSITIONS))
"""Every state of the transition table."""

PATIENCE_S: Final = 120.0
"""Longest wait for a round to get somewhere."""

STEP_S: Final = 1.0
"""Time for a message to reach the coordinator and to be taken, on a busy machine."""

_TRIES: Final = 40
_HURRY_S: Final = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One kill and what came after."""

    state: RoundState
    round_number: int
    """Round that was running, or had just ended."""
    ready_s: float
    """From the kill until the coordinator was ready again."""
    committed_s: float
    """From the kill until the round was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kill:
    state: RoundState
    at: float
    standing: Standing


class Killer:
    """Kill the coordinator of a scene, start it again, and wait until the round has come to its end."""

    def __init__(self, scene: Scene) -> None:
        """Use the fleet's first site to keep phases open."""
        self._scene = scene
        self._brake = scene.fleet.sites[0]

    async def kill_in(self, state: RoundState) -> Recovery:
        """Kill in a state of the next round that gets there; raise TimeoutError when none is met in it."""
        if state in COLLECTING:
            return await self._kill_held(state)
        if state is RoundState.SIGNING:
            return await self._kill_unstored()
        return await self._kill_frozen(state)

    async def _kill_held(self, state: RoundState) -> Recovery:
        step = Step(PHASE_OF[state])
        await self._hold(step)
        kill = await self._kill(state)
        return await self._recover(kill, released=step)

    async def _kill_unstored(self) -> Recovery:
        """Let the last site answer while nothing can be stored: the rosters are signed and nobody knows of them."""
        await self._hold(Step.TRAIN)
        with self._scene.book.writing_barred():
            self._scene.fleet.release(self._brake, Step.TRAIN)
            await asyncio.sleep(STEP_S)
            kill = await self._kill(RoundState.SIGNING)
        return await self._recover(kill)

    async def _kill_frozen(self, state: RoundState) -> Recovery:
        is_there = self._sign_of(state)
        for _ in range(_TRIES):
            await self._until(is_there)
            self._signal(signal.SIGSTOP)
            if is_there():
                return await self._recover(await self._kill(state))
            self._signal(signal.SIGCONT)
        raise TimeoutError(f"In {_TRIES} rounds the coordinator could not be stopped in state {state}.")

    async def _hold(self, step: Step) -> None:
        """Wait until nobody but the brake is awaited in this step's phase."""
        fleet, phase = self._scene.fleet, step.value
        fleet.hold(self._brake, step)
        await fleet.until_held(self._brake, step)
        await self._until(lambda: self._standing().phase == phase)
        await asyncio.sleep(STEP_S)

    async def _kill(self, state: RoundState) -> _Kill:
        at, standing = time.perf_counter(), self._standing()
        await self._scene.headquarters.kill()
        return _Kill(state=state, at=at, standing=standing)

    async def _recover(self, kill: _Kill, *, released: Step | None = None) -> Recovery:
        await self._scene.headquarters.start()
        ready = time.perf_counter()
        if released is not None:
            self._scene.fleet.release(self._brake, released)
        after = await self._scene.until_committed(kill.standing.committed + 1, within_s=PATIENCE_S)
        return Recovery(
            state=kill.state,
            round_number=after.round_number,
            ready_s=ready - kill.at,
            committed_s=time.perf_counter() - kill.at,
        )

    def _sign_of(self, state: RoundState) -> Callable[[], bool]:
        """Return what tells that a round is in this state."""
        if state is RoundState.PLANNED:
            return self._is_planned()
        if state is RoundState.ENDED:
            return lambda: self._standing().outcome is RoundOutcome.COMMITTED
        return lambda: self._standing().phase is PHASE_OF[state]

    def _is_planned(self) -> Callable[[], bool]:
        """Return whether the coordinator says that a round begins which it has not stored."""
        log = self._scene.headquarters.log.open("rb")
        begun = 0

        def look() -> bool:
            nonlocal begun
            for line in log:
                if b'"round begins"' in line:
                    begun = int(json.loads(line)["round"])
            return begun > self._standing().round_number

        log.seek(0, 2)
        return look

    def _standing(self) -> Standing:
        return self._scene.book.standing(self._scene.job_id)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._scene.headquarters.pid, number)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - another process's files cannot be awaited
                await asyncio.sleep(_HURRY_S)
