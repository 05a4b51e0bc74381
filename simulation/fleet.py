"""The fleet from outside: processes of light agents that take orders and tell what happens."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.operator_client import OperatorClient
from simulation.faults import DropOuts
from simulation.steps import Step

PATIENCE_S: Final = 600.0
"""Longest wait for anything that agents do."""

_LINE: Final = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A site that lost its power."""

    site: str
    round_number: int
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A heartbeat as its agent saw it."""

    at: float
    """Seconds since the epoch."""
    seconds: float
    """Until it was acknowledged."""


def site_name(number: int) -> str:
    """Return the name of a simulated site."""
    return f"sim-{number:04}"


class Fleet:
    """Light agents in several processes; an asynchronous context manager that ends them."""

    def __init__(
        self,
        folder: Path,
        sites: int,
        *,
        processes: int = 2,
        drop_outs: DropOuts | None = None,
        site_port: int | None = None,
        small: int = 0,
    ) -> None:
        """Make `sites` agents with their files under `folder`, which go through `site_port` when one is given.

        The last `small` of them have room for one matrix only.
        """
        self._small = tuple(map(site_name, range(sites - small, sites)))
        self._site_port = site_port
        self.sites = tuple(map(site_name, range(sites)))
        self.cuts: list[Cut] = []
        self.updates: Counter[str] = Counter()
        """How many updates each site has made."""
        self._folder = folder
        self._drop_outs = drop_outs or DropOuts()
        self._shares = [range(sites)[start::processes] for start in range(processes)]
        self._workers: list[asyncio.subprocess.Process] = []
        self._listening: list[asyncio.Task[None]] = []
        self._enrolled = 0
        self._held: set[tuple[str, Step]] = set()
        self._reports: list[dict[str, Any]] = []
        self._failure = ""
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> Fleet:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, share in enumerate(self._shares):
            worker = await self._spawn(number)
            self._workers.append(worker)
            self._listening.append(asyncio.create_task(self._listen(worker)))
            self._order(worker, self._settings_of(share))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """End all agents as a power cut would; none comes back."""
        for worker in self._workers:
            if worker.returncode is None:
                worker.kill()
        await asyncio.gather(*(worker.wait() for worker in self._workers))
        await asyncio.gather(*self._listening, return_exceptions=True)

    async def enrol(self, client: OperatorClient) -> None:
        """Have every site take a token."""
        tokens = {site: (await client.create_token(site)).join_string for site in self.sites}
        for worker, share in zip(self._workers, self._shares, strict=True):
            join_strings = {site: tokens[site] for site in map(site_name, share)}
            self._order(worker, {"do": "enrol", "join_strings": join_strings})
        await self._until(lambda: self._enrolled == len(self.sites))

    def start(self, sites: Sequence[str] = ()) -> None:
        """Start these agents, or all."""
        for worker, share in zip(self._workers, self._shares, strict=True):
            own = [site for site in map(site_name, share) if not sites or site in sites]
            self._order(worker, {"do": "start", "sites": own})

    def hold(self, site: str, step: Step) -> None:
        """Keep a site from taking a step until it is released."""
        self._order(self._worker_of(site), {"do": "hold", "site": site, "step": step})

    def release(self, site: str, step: Step) -> None:
        """Let a site go on."""
        self._held.discard((site, step))
        self._order(self._worker_of(site), {"do": "release", "site": site, "step": step})

    async def until_held(self, site: str, step: Step) -> None:
        """Wait until a site stands before a step."""
        await self._until(lambda: (site, step) in self._held)

    async def report(self) -> tuple[list[Beat], float]:
        """Return all heartbeats so far, and the processor seconds of the agents' processes."""
        self._reports.clear()
        for worker in self._workers:
            self._order(worker, {"do": "report"})
        await self._until(lambda: len(self._reports) == len(self._workers))
        beats = [Beat(at=at, seconds=seconds) for each in self._reports for at, seconds in each["beats"]]
        return beats, sum(each["cpu_s"] for each in self._reports)

    async def greetings(self) -> list[float]:
        """Return when streams were opened so far, in order, seconds since the epoch."""
        await self.report()
        return sorted(at for each in self._reports for at in each["greetings"])

    def cut_in(self, round_number: int) -> Mapping[str, Step]:
        """Return who lost power in a round, and before which step."""
        return {cut.site: cut.step for cut in self.cuts if cut.round_number == round_number}

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "simulation.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                limit=_LINE,
            )

    def _settings_of(self, share: Sequence[int]) -> dict[str, Any]:
        return {
            "folder": str(self._folder),
            "site_port": self._site_port,
            "sites": {site_name(number): number for number in share},
            "rate": self._drop_outs.rate,
            "steps": self._drop_outs.steps,
            "rounds": self._drop_outs.rounds,
            "cut_sites": self._drop_outs.sites,
            "small_sites": self._small,
            "seed": self._drop_outs.seed,
        }

    def _worker_of(self, site: str) -> asyncio.subprocess.Process:
        number = self.sites.index(site)
        return next(w for w, share in zip(self._workers, self._shares, strict=True) if number in share)

    def _order(self, worker: asyncio.subprocess.Process, order: dict[str, Any]) -> None:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(order).encode() + b"\n")

    async def _listen(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        async for line in worker.stdout:
            async with self._heard:
                self._note(json.loads(line))
                self._heard.notify_all()

    def _note(self, told: dict[str, Any]) -> None:
        match told.pop("what"):
            case "enrolled":
                self._enrolled += told["sites"]
            case "updated":
                self.updates[told["site"]] += 1
            case "cut":
                self.cuts.append(Cut(site=told["site"], round_number=told["round"], step=Step(told["step"])))
            case "held":
                self._held.add((told["site"], Step(told["step"])))
            case "report":
                self._reports.append(told)
            case "failed":
                self._failure = f"{told['site']} ended: {told['error']}"

    async def _until(self, is_so: Any) -> None:
        async with asyncio.timeout(PATIENCE_S), self._heard:
            await self._heard.wait_for(lambda: self._failure or is_so())
        if self._failure:
            raise RuntimeError(self._failure)
