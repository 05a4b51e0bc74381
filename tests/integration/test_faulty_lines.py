"""Rounds over lines that are slow, cut, stalled, reset or repeated: real agents and coordinator over mutual TLS.

Every update reveals itself in the version that the round makes, so a site that was not counted, or twice, is seen.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from faulty_line import FaultyLine
from running_coordinator import RunningCoordinator, running_coordinator

from coordinator.config import DataFolder
from coordinator.store.staging import StagedUpload
from ravan.codec import enums
from ravan.codec.chunks import CHUNK_BYTES
from ravan.identity.join import decode_invitation, encode_invitation
from ravan.manifest.phases import JobState, RoundOutcome
from ravan.rpc.server import AHEAD_BYTES
from ravan.wire.v1.operator_service_pb2 import Job
from simulation.agent import LightAgent
from simulation.faults import DropOuts
from simulation.fleet import site_name
from simulation.job import Order, Shape, submit
from simulation.proof import count_updates
from simulation.steps import Step

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SITES = 4
LONGEST_S = 300.0
SMALL_TALK_BYTES = 64 << 10
"""Of a line beside an upload: handshakes, heartbeats, the frames around chunks."""
LARGE = Shape(hidden=256, layers=4, heads=1, rank=256)
"""524,288 parameters: a masked vector of 1.5 MB, so six chunks."""


@dataclass
class Silence:
    """Whoever is told what agents do, and is not interested."""

    def beat(self, at: float, seconds: float) -> None: ...

    def greeted(self, at: float) -> None: ...

    def updated(self, site: str, round_number: int) -> None: ...

    def cut(self, site: str, round_number: int, step: Step) -> None: ...


Script = Callable[[int, int, Step], None]
"""Told round, site number and step just before each step of each site; sets faults."""


@dataclass
class Plant:
    """A coordinator, light agents, and a line between each of them and it."""

    hq: RunningCoordinator
    folder: Path
    lines: list[FaultyLine] = field(default_factory=list)
    script: Script = lambda _round, _site, _step: None
    job_id: str = ""

    async def until(self, is_so: Callable[[Job], bool]) -> Job:
        """Wait until the job is as wanted."""
        async with asyncio.timeout(LONGEST_S):
            while not is_so(job := await self.hq.operator.get_job(self.job_id)):  # noqa: ASYNC110 - another's job
                await asyncio.sleep(0.05)
        return job

    async def until_completed(self) -> Job:
        return await self.until(lambda job: enums.JOB_STATE.from_wire(job.state) is JobState.COMPLETED)

    async def assert_exact(self, job: Job, rounds: int) -> None:
        """Check that each round made a version in which each site is counted once."""
        assert [enums.ROUND_OUTCOME.from_wire(each.outcome) for each in job.rounds] == [RoundOutcome.COMMITTED] * rounds
        assert [list(each.dropped) for each in job.rounds] == [[]] * rounds
        pki = DataFolder(self.hq.config.server.data_dir).pki
        counted = await count_updates(self.hq.operator, job, pki, self.folder / "versions")
        everyone = frozenset(map(site_name, range(SITES)))
        assert [(each.counted, each.faults) for each in counted] == [(everyone, ())] * rounds


@asynccontextmanager
async def plant(folder: Path, order: Order) -> AsyncIterator[Plant]:
    """Start everything; agents begin at once and wait for the job."""
    async with running_coordinator(folder) as hq, AsyncExitStack() as stack:
        built = Plant(hq, folder)
        lives = []
        for number in range(SITES):
            site = site_name(number)
            invitation = decode_invitation((await hq.operator.create_token(site)).join_string)
            line = FaultyLine(invitation.address.site_port)
            built.lines.append(line)
            port = await stack.enter_async_context(line.serve())
            told = replace(invitation, address=replace(invitation.address, host="127.0.0.1", site_port=port))

            async def pass_gate(step: Step, round_number: int, number: int = number) -> None:
                built.script(round_number, number, step)

            agent = LightAgent(number, site, folder / site, DropOuts(), Silence(), pass_gate)
            await agent.enrol(encode_invitation(told))
            lives.append(asyncio.create_task(agent.live(), name=site))
        try:
            built.job_id = await submit(hq.operator, order, folder)
            yield built
        finally:
            for line in built.lines:
                line.heal()
            for life in lives:
                life.cancel()
            ended = await asyncio.gather(*lives, return_exceptions=True)
            assert [each for each in ended if not isinstance(each, asyncio.CancelledError)] == []


async def test_rounds_are_exact_whatever_befalls_the_lines(tmp_path: Path) -> None:
    """One fault a round, and one round after them all on sound lines."""
    alone_at = asyncio.Event()

    async with plant(tmp_path, Order(rounds=6, minimum_sites=SITES)) as built:
        repeats: set[asyncio.Task[None]] = set()

        def misbehave(round_number: int, number: int, step: Step) -> None:
            line = built.lines[number]
            if step is Step.TRAIN:
                line.heal()
            match round_number:
                case 1:
                    line.delay_s = 0.02
                case 2:
                    line.bytes_per_s = 100_000
                case 3 if number == 0 or step is Step.CONFIRM:
                    # One site loses its line at every step, the others at one.
                    line.reset()
                case 4 if number == 1 and step is Step.UPLOAD:
                    line.stall()
                    alone_at.set()
                case 5 if number == 2:
                    repeats.add(asyncio.create_task(line.repeat()))

        built.script = misbehave
        await alone_at.wait()
        await built.until(lambda job: list(job.rounds[-1].awaited) == [site_name(1)])
        built.lines[1].flow()
        job = await built.until_completed()
        await asyncio.gather(*repeats)
        await built.assert_exact(job, 6)
        assert built.lines[0].cuts >= len(Step)
        assert all(line.connections > 1 for line in built.lines)
        assert built.lines[2].repeated == len(Step)


@dataclass
class Stored:
    """What each site's upload wrote, piece by piece: offset and length, and how many streams it took."""

    pieces: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    streams: defaultdict[str, set[StagedUpload]] = field(default_factory=lambda: defaultdict(set))

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        append = StagedUpload.append

        def note(upload: StagedUpload, offset: int, data: bytes) -> None:
            append(upload, offset, data)
            site = upload._place.parent.name
            self.pieces[site].append((offset, len(data)))
            self.streams[site].add(upload)

        monkeypatch.setattr(StagedUpload, "append", note)


# A sender is at most a window ahead of what was read, so that a chunk at least is stored before each cut.
@pytest.mark.parametrize("cuts", [(700_000,), (450_000, 450_000, 450_000)], ids=["once", "thrice"])
async def test_an_upload_goes_on_at_the_committed_offset_after_each_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, ...]
) -> None:
    stored, victim = Stored(), site_name(0)
    stored.watch(monkeypatch)
    went_up: list[int] = []
    async with plant(tmp_path, Order(rounds=1, minimum_sites=SITES, shape=LARGE)) as built:
        line = built.lines[0]

        def misbehave(round_number: int, number: int, step: Step) -> None:
            if number == 0 and step in (Step.UPLOAD, Step.CONFIRM):
                went_up.append(line.bytes_up)
            if number == 0 and step is Step.UPLOAD:
                line.cut_after(*cuts)

        built.script = misbehave
        job = await built.until_completed()
        await built.assert_exact(job, 1)
        assert line.cuts == len(cuts)
    (size,) = (each.upload_bytes for each in job.rounds[0].sites if each.site == victim)
    # What is stored is stored once and without a gap, by one stream more than there were cuts.
    ends = [offset + length for offset, length in stored.pieces[victim]]
    assert [offset for offset, _ in stored.pieces[victim]] == [0, *ends[:-1]]
    assert ends[-1] == size
    assert len(stored.streams[victim]) == len(cuts) + 1
    # What goes again is what was under way at a cut: a window, and a chunk that was not whole.
    sent = went_up[1] - went_up[0]
    assert size <= sent <= size + len(cuts) * (AHEAD_BYTES + CHUNK_BYTES) + SMALL_TALK_BYTES
