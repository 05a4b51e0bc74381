"""A process that runs many light agents: told what to do on standard input, telling what happens on standard output.

Lines of JSON. In: `Fleet`'s settings first, then {"do": "enrol" | "start" | "hold" | "release" | "report"}.
Out: {"what": "enrolled" | "held" | "updated" | "cut" | "failed" | "report"}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from edge_agent.hardware.memory import lifetime_peak_bytes
from ravan.logs import LogFormat, LogLevel, LogTable, set_up_logs
from simulation.agent import LightAgent
from simulation.desks import ROOM_FOR_ALL, ROOM_FOR_ONE
from simulation.faults import DropOuts
from simulation.steps import Step

ENROLMENTS_AT_ONCE: Final = 8


class Teller:
    """Write what happens; also the agents' `Notes`."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, float]] = []
        self.greetings: list[float] = []

    def __call__(self, what: str, **facts: Any) -> None:
        """Write one line."""
        sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
        sys.stdout.flush()

    def beat(self, at: float, seconds: float) -> None:
        """Keep a heartbeat for the report."""
        self.beats.append((at, seconds))

    def greeted(self, at: float) -> None:
        """Keep the time for the report."""
        self.greetings.append(at)

    def updated(self, site: str, round_number: int) -> None:
        """Tell of an update; called from the thread that works."""
        self("updated", site=site, round=round_number)

    def cut(self, site: str, round_number: int, step: Step) -> None:
        """Tell of a cut."""
        self("cut", site=site, round=round_number, step=step)


class Gates:
    """Hold sites before a step until they are released."""

    def __init__(self, tell: Teller) -> None:
        self._tell = tell
        self._closed: dict[tuple[str, Step], asyncio.Event] = {}

    def hold(self, site: str, step: Step) -> None:
        """Let the site not go beyond this step."""
        self._closed.setdefault((site, step), asyncio.Event())

    def release(self, site: str, step: Step) -> None:
        """Let it go on, now and later."""
        gate = self._closed.pop((site, step), None)
        if gate is not None:
            gate.set()

    async def pass_gate(self, site: str, step: Step, round_number: int) -> None:
        """Wait while the gate is closed."""
        gate = self._closed.get((site, step))
        if gate is not None:
            self._tell("held", site=site, step=step, round=round_number)
            await gate.wait()


class Crew:
    """The agents of this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._tell = Teller()
        self._gates = Gates(self._tell)
        drop_outs = DropOuts(
            rate=settings["rate"],
            steps=tuple(map(Step, settings["steps"])),
            rounds=tuple(settings["rounds"]),
            sites=tuple(settings["cut_sites"]),
            seed=settings["seed"],
        )
        folder = Path(settings["folder"])
        self._agents = {
            site: LightAgent(
                number,
                site,
                folder / site,
                drop_outs,
                self._tell,
                self._gate_of(site),
                settings["site_port"],
                ram_limit_bytes=ROOM_FOR_ONE if site in settings["small_sites"] else ROOM_FOR_ALL,
            )
            for site, number in settings["sites"].items()
        }
        self._lives: set[asyncio.Task[None]] = set()

    async def obey(self, order: dict[str, Any]) -> None:
        """Do what a line says."""
        match order["do"]:
            case "enrol":
                await self._enrol(order["join_strings"])
            case "start":
                for site in order["sites"]:
                    self._start(self._agents[site])
            case "hold":
                self._gates.hold(order["site"], Step(order["step"]))
            case "release":
                self._gates.release(order["site"], Step(order["step"]))
            case "report":
                self._tell(
                    "report",
                    beats=self._tell.beats,
                    greetings=self._tell.greetings,
                    peak_bytes=lifetime_peak_bytes(),
                    cpu_s=sum(os.times()[:2]),
                )

    def _start(self, agent: LightAgent) -> None:
        life = asyncio.create_task(agent.live(), name=agent.site)
        self._lives.add(life)
        life.add_done_callback(self._mourn)

    def _mourn(self, life: asyncio.Task[None]) -> None:
        """Tell what ended an agent: none may end."""
        if not life.cancelled():
            self._tell("failed", site=life.get_name(), error=repr(life.exception()))

    async def _enrol(self, join_strings: dict[str, str]) -> None:
        room = asyncio.Semaphore(ENROLMENTS_AT_ONCE)

        async def enrol_one(site: str, join_string: str) -> None:
            async with room:
                await self._agents[site].enrol(join_string)

        await asyncio.gather(*(enrol_one(site, text) for site, text in join_strings.items()))
        self._tell("enrolled", sites=len(join_strings))

    def _gate_of(self, site: str) -> Any:
        async def pass_gate(step: Step, round_number: int) -> None:
            await self._gates.pass_gate(site, step, round_number)

        return pass_gate


async def main() -> None:
    """Obey until standard input ends."""
    set_up_logs(LogTable(format=LogFormat.JSON, level=LogLevel.WARNING))
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    crew = Crew(json.loads(await reader.readline()))
    while line := await reader.readline():
        await crew.obey(json.loads(line))


if __name__ == "__main__":
    asyncio.run(main())
