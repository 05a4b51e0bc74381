"""One light agent: the product's session on a real identity, which loses its power now and then."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from edge_agent.audit.trail import AuditTrail
from edge_agent.identity.enrol import enrol
from edge_agent.identity.keystore import Identity
from edge_agent.serving.collector import VersionCollector
from edge_agent.serving.shelf import MODELS_FOLDER, ModelShelf
from edge_agent.session.acceptance import SiteTerms
from edge_agent.session.acquaintance_file import AcquaintanceFile
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.client import AgentSession
from edge_agent.session.connection import Coordinator
from edge_agent.session.lane import Lane
from edge_agent.session.ledger import RoundLedger
from edge_agent.session.machine import SessionMachine
from edge_agent.session.renewals import Renewals
from edge_agent.session.round_desk import RoundSettings
from edge_agent.session.stream import Unreadable
from edge_agent.storage.blob_cache import BlobCache
from edge_agent.storage.share import DiskShare
from ravan.clock import SystemClock
from ravan.identity.keyfiles import make_private_folder
from ravan.identity.keys import raw_public
from ravan.manifest.assignment import BUNDLE_FLOOR
from ravan.manifest.instructions import Greeting, Numbered
from ravan.manifest.liveness import Heartbeat
from simulation.desks import ROOM_FOR_ALL, Gate, LightJobs, LightProbe, LightRounds, LightTraining, LightWatch
from simulation.faults import DropOuts
from simulation.steps import Step

DARK_S: Final = 0.5
"""How long an agent that lost its power stays off."""

_PROCESS_ID_BYTES: Final = 16


class Notes(Protocol):
    """Whoever is told what agents do."""

    def beat(self, at: float, seconds: float) -> None:
        """A heartbeat that was sent at this time took so long to be acknowledged."""
        ...

    def greeted(self, at: float) -> None:
        """An agent's stream was opened at this time."""
        ...

    def updated(self, site: str, round_number: int) -> None:
        """A site made an update for this round."""
        ...

    def cut(self, site: str, round_number: int, step: Step) -> None:
        """A site loses its power before this step."""
        ...


class TimedCoordinator(Coordinator):
    """The agent's channel, with a clock on streams and heartbeats."""

    def __init__(self, identity: Identity, notes: Notes) -> None:
        super().__init__(identity)
        self._notes = notes

    async def watch(
        self, process_id: bytes, after_sequence: int
    ) -> AsyncGenerator[Greeting | Numbered | Unreadable, None]:
        """Yield what the product's yields, and note when it is greeted."""
        async with aclosing(super().watch(process_id, after_sequence)) as messages:
            async for message in messages:
                if isinstance(message, Greeting):
                    self._notes.greeted(time.time())
                yield message

    async def heartbeat(self, beat: Heartbeat) -> None:
        """Send a heartbeat and note how long its answer took."""
        at, began = time.time(), time.perf_counter()
        await super().heartbeat(beat)
        self._notes.beat(at, time.perf_counter() - began)


class LightAgent:
    """Enrol once, then run one session after another until cancelled."""

    def __init__(
        self,
        number: int,
        site: str,
        folder: Path,
        drop_outs: DropOuts,
        notes: Notes,
        gate: Gate,
        site_port: int | None = None,
        *,
        ram_limit_bytes: int = ROOM_FOR_ALL,
    ) -> None:
        """Be site `number`, which decides the slot of its updates; `gate` may hold it before a step.

        It calls `site_port` instead of its join string's, when one is given.
        """
        self._ram_limit_bytes = ram_limit_bytes
        self.site = site
        self._site_port = site_port
        self._number = number
        self._folder = folder
        self._drop_outs = drop_outs
        self._notes = notes
        self._gate = gate
        self._identity: Identity | None = None

    async def enrol(self, join_string: str) -> None:
        """Take the token's certificate."""
        identity = await enrol(join_string, self._folder / "identity")
        if self._site_port is not None:
            identity = replace(identity, address=replace(identity.address, site_port=self._site_port))
        self._identity = identity

    async def live(self) -> None:
        """Serve; after a cut come back as a new process would."""
        assert self._identity is not None
        while True:
            power_cut = asyncio.Event()
            coordinator = TimedCoordinator(self._identity, self._notes)
            session = asyncio.create_task(self._build(self._identity, coordinator, power_cut).run(asyncio.Event()))
            cut = asyncio.create_task(power_cut.wait())
            try:
                await asyncio.wait((session, cut), return_when=asyncio.FIRST_COMPLETED)
                if session.done():
                    session.result()
            finally:
                # The line goes first, so that the session cannot say that it leaves.
                await coordinator.close()
                for task in (session, cut):
                    task.cancel()
                await asyncio.gather(session, cut, return_exceptions=True)
            await asyncio.sleep(DARK_S)

    def _gate_of(self, power_cut: asyncio.Event) -> Gate:
        async def pass_gate(step: Step, round_number: int) -> None:
            await self._gate(step, round_number)
            if self._drop_outs.step_of(self.site, round_number) is step:
                self._notes.cut(self.site, round_number, step)
                power_cut.set()
                await asyncio.Event().wait()

        return pass_gate

    def _build(self, identity: Identity, coordinator: Coordinator, power_cut: asyncio.Event) -> AgentSession:
        """Join the parts as `edge_agent.app.build_session` does, with light desks."""
        process_id, state_dir = os.urandom(_PROCESS_ID_BYTES), self._folder / "state"
        shutil.rmtree(state_dir / "rounds", ignore_errors=True)
        make_private_folder(state_dir)
        ledger, lane, jobs = RoundLedger(state_dir / "rounds.json"), Lane(), LightJobs()
        board = ActivityBoard(process_id, asyncio.get_running_loop())
        shelf = ModelShelf(state_dir / MODELS_FOLDER)
        cache = BlobCache(self._folder, DiskShare(limit_bytes=0, folders=(self._folder,)), shelf.plans)
        downloads = coordinator.downloads(cache)
        rounds = LightRounds(
            gate=self._gate_of(power_cut),
            settings=RoundSettings(
                process_id=process_id,
                identity_key=identity.identity_key,
                minimum_bundle_threshold=BUNDLE_FLOOR,
                folder=state_dir / "rounds",
                keeper=None,
                audit=AuditTrail(state_dir, SystemClock()),
            ),
            coordinator=coordinator,
            jobs=jobs,
            training=LightTraining(self._number, lambda round_number: self._notes.updated(self.site, round_number)),
            downloads=downloads,
            uploads=coordinator.uploads(),
            lane=lane,
            board=board,
        )
        return AgentSession(
            process_id=process_id,
            manifest_key=identity.manifest_key,
            machine=SessionMachine(_terms(identity), ledger.rounds),
            ledger=ledger,
            acquaintances=AcquaintanceFile(state_dir),
            coordinator=coordinator,
            renewals=Renewals(self._folder / "identity", coordinator, SystemClock()),
            jobs=jobs,
            rounds=rounds,
            versions=VersionCollector(shelf, downloads.fetch, identity.manifest_key, SystemClock()),
            lane=lane,
            board=board,
            watch=LightWatch(),
            probe=LightProbe(self._ram_limit_bytes),
            clock=SystemClock(),
        )


def _terms(identity: Identity) -> SiteTerms:
    return SiteTerms(site=identity.site, identity_key=raw_public(identity.identity_key))
