"""A plant in memory: the conductor over the real database, sites that answer on the event loop, manual time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.aggregation.unmasking import sum_payloads
from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.sample import write_sample
from coordinator.rounds.conductor import Conductor
from coordinator.rounds.ports import Job, PlannedJob
from coordinator.rounds.replies import JobDetail
from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.rounds.services import Services
from coordinator.rounds.signing import Signatory
from coordinator.store.base import Result, Store, Transaction
from coordinator.store.records import ModelRecord, RoundRecord, SiteRecord
from coordinator.store.sql.store import MEMORY, open_store
from ravan.clock import ManualClock
from ravan.codec.documents import open_document
from ravan.codec.secagg_messages import Submission
from ravan.errors import ErrorReason, ProtocolError, RavanError, ResourceError
from ravan.ids import BlockId, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import DocumentKind
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    Instruction,
    JobEnded,
    MaskAndUpload,
    Numbered,
    Prepare,
    Reveal,
    RoundRef,
    RoundResult,
    Train,
)
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, DropReason, RoundOutcome, RoundPhase
from ravan.manifest.plan import AdapterSettings, BasisKind, DenseParameter, JobPlan, Matrix, ModelFile
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.manifest.roster import Roster
from ravan.secagg import effects as agent_effects
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.combine import RoundSum
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import MaskedHeader
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.unmask import UnmaskJob
from ravan.secagg.vectors import QuantisedBlock, assemble

MANIFEST_KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"m")
EVALUATION = Digest(b"e" * 32)
PATIENCE_S = 20.0
MATRICES = 3
HEADS = 2
FULL_RAM = 1000
"""Bytes that the model and all of its three matrices need, in these tests' small numbers."""
SCORES = (1.0, 0.0, 0.2)
"""What every site says of the heads of each matrix; multiples of 1 / 65535, so nothing is rounded."""


FULL = "The disk is full."


def digest_of(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).digest())


def job_toml(
    *,
    rounds: int = 2,
    minimum_sites: int = 3,
    name: str = "orders",
    policy: str = "coverage",
    settings: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Write a job file; `settings` are lines of the sample, by their keys, and what stands there instead."""
    text = write_sample()
    changes = {
        'name = "work-orders"': f'name = "{name}"',
        "rounds = 12": f"rounds = {rounds}",
        "minimum_sites = 8": f"minimum_sites = {minimum_sites}",
        "bundle_threshold = 8": "bundle_threshold = 3",
        'policy = "coverage"': f'policy = "{policy}"',
        "share = 1.0": f"share = {1.0 if policy == 'coverage' else 0.5}",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    for key, line in settings.items():
        text, found = re.subn(rf"(?m)^(# )?{key} = .*$", line, text)
        assert found == 1, key
    return text


def draw_plan(file: JobFile) -> JobPlan:
    name = file.job.name
    return JobPlan(
        run_id=RunId(digest_of(name)[:16]),
        job_id=JobId(f"job-{name}"),
        job_name=name,
        model_name=file.model.name,
        model_files=(ModelFile(path="config.json", sha256=digest_of("config"), size_bytes=2),),
        adapter=AdapterSettings(heads=HEADS, rank=2, basis=BasisKind.GRAM_SCHMIDT, seed=bytes(32)),
        matrices=tuple(
            Matrix(ordinal=i, name=f"layer.{i}.query", out_features=4, in_features=4, basis_digest=digest_of(f"b{i}"))
            for i in range(MATRICES)
        ),
        dense=(DenseParameter(ordinal=0, name="classifier.weight", shape=(2, 4)),),
        training=file.training.settled(),
        denominator=file.round.denominator,
    )


@dataclass
class Workbench:
    """Real unmasking, pretended models: accuracy grows with each version."""

    unmask_error: RavanError | None = None
    stalls_in: str = ""
    """`unmask` or `combine`: this work does not come to an end."""
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once such work has begun."""
    figures: Mapping[int, Evaluation] = field(default_factory=dict)
    """What evaluations find instead, by their count from 0."""
    based_on: list[Digest] = field(default_factory=list)
    """Version that each new one was made from."""
    totals: list[RoundSum] = field(default_factory=list)
    evaluated: list[Digest] = field(default_factory=list)
    weighed: list[Digest] = field(default_factory=list)

    async def plan(
        self, file: JobFile, *, model: ModelRecord, evaluation_digest: Digest, fleet_size: int
    ) -> PlannedJob:
        assert evaluation_digest == EVALUATION
        return PlannedJob(
            plan=draw_plan(file), state_digest=digest_of("version 0"), notes=(f"{fleet_size} sites on {model.name}",)
        )

    async def unmask(self, job: Job, works: Sequence[UnmaskJob], payloads: Mapping[int, Path]) -> SummedRound:
        if self.unmask_error is not None:
            raise self.unmask_error
        await self._stall("unmask")
        total = sum_payloads(works, payloads, job.plan.denominator, io.BytesIO()).total
        number = works[0].assignment.round_number
        return SummedRound(total=total, sums_digest=digest_of(f"sums {number}"), seconds=0.25)

    async def combine(self, job: Job, number: int, state_digest: Digest, summed: SummedRound) -> Digest:
        await self._stall("combine")
        self.based_on.append(state_digest)
        self.totals.append(summed.total)
        return digest_of(f"version {len(self.totals)}")

    async def weigh(self, job: Job, state_digest: Digest) -> Mapping[BlockId, float]:
        self.weighed.append(state_digest)
        # The lowest matrix has moved furthest.
        return {head: float(MATRICES - head.matrix) for head in job.plan.head_ids()}

    async def evaluate(self, job: Job, state_digest: Digest) -> Evaluation:
        self.evaluated.append(state_digest)
        if len(self.evaluated) - 1 in self.figures:
            return self.figures[len(self.evaluated) - 1]
        return Evaluation(accuracy=0.1 * len(self.evaluated), loss=1.0 / len(self.evaluated))

    async def _stall(self, work: str) -> None:
        if self.stalls_in == work:
            self.stalled.set()
            await asyncio.Event().wait()


@dataclass
class Notebook:
    """Metrics as a list of what was said."""

    queued: int = 0
    said: list[tuple[object, ...]] = field(default_factory=list)
    taking_part: list[tuple[int, int]] = field(default_factory=list)
    """Sites selected and counted, by round that ended."""

    def round_began(self, training_deadline_s: float) -> None:
        self.said.append(("round began", training_deadline_s))

    def phase_changed(self, job_id: JobId, phase: RoundPhase | None) -> None:
        self.said.append(("phase", phase))

    def phase_ended(self, phase: RoundPhase, seconds: float, trace_id: str) -> None:
        self.said.append(("phase ended", phase))

    def round_ended(self, outcome: RoundOutcome, *, selected: int, counted: int) -> None:
        self.said.append(("round ended", outcome))
        self.taking_part.append((selected, counted))

    def sites_resting(self, job_id: JobId, count: int) -> None:
        self.said.append(("resting", job_id, count))

    def site_dropped(self, phase: RoundPhase, reason: DropReason) -> None:
        self.said.append(("dropped", phase, reason))

    def head_cohort(self, survivors: int) -> None:
        self.said.append(("cohort", survivors))

    def masked_bytes(self, count: int) -> None:
        self.said.append(("masked", count))

    def unmasked(self, seconds: float, trace_id: str) -> None:
        self.said.append(("unmasked", seconds))

    def model_evaluated(self, job: str, evaluation: Evaluation) -> None:
        self.said.append(("evaluated", job))

    def jobs_queued(self, count: int) -> None:
        self.queued = count

    def job_ended(self, job: str) -> None:
        self.said.append(("job ended", job))


@dataclass
class ManualTimer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ManualTimers:
    """Calls are made when the test moves the clock."""

    clock: ManualClock
    due: list[ManualTimer] = field(default_factory=list)

    def call_at(self, at: float, call: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(at, call)
        self.due.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        ripe = [timer for timer in self.due if timer.at <= self.clock.now() and not timer.cancelled]
        self.due = [timer for timer in self.due if timer not in ripe]
        for timer in ripe:
            timer.call()


@dataclass
class Bells:
    """The mailbox: wakes the sites' tasks."""

    bells: dict[SiteId, asyncio.Event] = field(default_factory=dict)

    def wake(self, site: SiteId) -> None:
        self.bells.setdefault(site, asyncio.Event()).set()


@dataclass
class Shelf:
    """Staged uploads."""

    discarded: list[tuple[RunId, int | None]] = field(default_factory=list)

    folder: Path = Path()

    def path_of(self, run_id: RunId, round_number: int, site: SiteId, sha256: Digest) -> Path:
        return self.folder / f"{site}-{sha256.hex()}"

    def discard_round(self, run_id: RunId, before_round: int) -> None:
        self.discarded.append((run_id, before_round))

    def discard_run(self, run_id: RunId) -> None:
        self.discarded.append((run_id, None))


WRITES = frozenset(
    {"start_job", "prepare_site", "put_job_profile", "put_job", "read_fleet", "advance_round", "end_job"}
)
"""Transactions of the coordinator that write, by name."""


@dataclass
class FullDisk:
    """A store that refuses transactions of one name, or holds them up, while it is told to.

    It can also run full at a transaction that writes: that one and all later ones are refused until room is made.
    """

    store: Store
    refuse: str = ""
    full_at: int = 0
    """Number of the write at which it runs full, from 1; 0: never."""
    writes: int = 0
    refusals: int = 0
    holds: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def transact(self, name: str, work: Callable[[Transaction], Result]) -> Result:
        self.writes += name in WRITES
        is_full = name in WRITES and 0 < self.full_at <= self.writes
        if is_full or name == self.refuse:
            self.refusals += 1
            raise ResourceError(FULL, reason=ErrorReason.DISK_FULL, next_step="Free some space.")
        if name == self.holds:
            self.held.set()
            await self.released.wait()
        return await self.store.transact(name, work)

    def make_room(self) -> None:
        self.refuse, self.full_at = "", 0

    async def close(self) -> None:
        await self.store.close()


class Site:
    """One agent: reads its instructions from the database and answers, unless told to be mute."""

    def __init__(self, plant: Plant, name: SiteId, *, ram: int = FULL_RAM) -> None:
        self.plant = plant
        self.name = name
        self.ram = ram
        self.slowness = 1.0
        self.mute: set[type[Instruction]] = set()
        self.idle_in = 0
        """Number of a round in which it does not train."""
        self.cannot_prepare: DropReason | None = None
        self.identity = Ed25519PrivateKey.from_private_bytes(digest_of(f"identity {name}"))
        self.process = digest_of(f"process {name}")[:16]
        self.heard: list[Instruction] = []
        self.refused: list[RavanError] = []
        self.trained: list[int] = []
        """Tiles of each round."""
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None
        self._roster: Roster | None = None
        self._assignment: Assignment | None = None
        self._reference: RoundRef | None = None
        self._agent: AgentRound | None = None
        self._unanswered: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def enrol(self) -> None:
        record = SiteRecord(
            name=self.name,
            identity_key=self.identity.public_key().public_bytes_raw(),
            certificate_pem=b"",
            certificate_serial="0",
            certificate_expires_at=0.0,
            enrolled_at=0.0,
        )
        await self.plant.store.transact("enrol", lambda transaction: transaction.put_site(record))

    async def connect(self) -> None:
        await self.plant.conductor.site_attached(self.name, self.process)
        await self.report_hardware()
        self.listen()

    def listen(self) -> None:
        self._task = asyncio.create_task(self._listen())

    async def restart(self) -> None:
        """Come back as another process that knows nothing."""
        await self.disconnect()
        self.process = digest_of(f"{self.process!r} again")[:16]
        self._sequence, self._unanswered = 0, None
        await self.connect()

    @property
    def awaits_answer(self) -> bool:
        return self._unanswered is not None

    async def disconnect(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def report_hardware(self) -> None:
        profile = HardwareProfile(
            cores=2,
            ram_total_bytes=8 * FULL_RAM,
            ram_limit_bytes=self.ram,
            ram_limit_source=LimitSource.CONFIG,
            disk_free_bytes=1 << 30,
            aes_instructions=True,
            cpu_capability="AVX2",
            agent_version="0.1.0",
        )

        def work(transaction: Transaction) -> None:
            record = transaction.get_site(self.name)
            assert record is not None
            transaction.put_site(replace(record, hardware=profile))

        await self.plant.store.transact("report_hardware", work)
        await self.plant.conductor.hardware_reported(self.name, profile)

    async def _listen(self) -> None:
        bell = self.plant.bells.bells.setdefault(self.name, asyncio.Event())
        if self._unanswered is not None:
            await self._insist(self._unanswered)
        while True:
            bell.clear()
            for numbered in await self.plant.store.transact(
                "listen", lambda transaction: transaction.instructions_after(self.name, self._sequence)
            ):
                self._sequence = numbered.sequence
                self.heard.append(numbered.instruction)
                if self._answers(numbered.instruction):
                    try:
                        await self.answer(numbered.instruction)
                    except RavanError as error:
                        self.refused.append(error)
                        if isinstance(error, ProtocolError) and error.suspect is not None:
                            await self.accuse(error.suspect)
            await bell.wait()

    def _answers(self, instruction: Instruction) -> bool:
        if isinstance(instruction, Train) and self.open(instruction)[0].round_number == self.idle_in:
            return False
        return type(instruction) not in self.mute

    async def answer(self, instruction: Instruction) -> None:
        match instruction:
            case Prepare():
                await self._prepare(instruction)
            case Train():
                self._join(instruction)
                await self._react(self.agent.finish_training())
            case ExchangeShares(roster=document):
                self._roster, digest = open_document(DocumentKind.ROSTER, document, self.plant.manifest_public)
                assert self._reference is not None
                self._reference = replace(self._reference, roster_digest=digest)
                await self._react(self.agent.roster(self._roster, digest))
            case MaskAndUpload(delivery=delivery):
                await self._react(self.agent.deliver(delivery))
            case ConfirmSurvivors(survivors=survivors):
                await self._react(self.agent.survivors(survivors))
            case Reveal(request=request):
                await self._react(self.agent.reveal(request))
            case RoundResult() | JobEnded():
                pass

    @property
    def agent(self) -> AgentRound:
        assert self._agent is not None
        return self._agent

    @property
    def assignment(self) -> Assignment:
        assert self._assignment is not None
        return self._assignment

    @property
    def index(self) -> int:
        return next(member.index for member in self.assignment.members if member.site == self.name)

    async def _prepare(self, instruction: Prepare) -> None:
        plan, digest = open_document(DocumentKind.PLAN, instruction.plan, self.plant.manifest_public)
        if self.cannot_prepare is not None:
            await self.plant.conductor.left(self.name, plan.job_id, 0, self.cannot_prepare)
            return
        # The model takes 400 bytes, each matrix 150 more: 5 % margin on top, so 900 * 1.05 for all three.
        profile = JobProfile(
            plan_digest=digest,
            ram_loaded_bytes=350,
            ram_floor_bytes=50,
            ram_per_matrix_bytes=150,
            step_floor_s=0.1 * self.slowness,
            step_per_matrix_s=0.1 * self.slowness,
        )
        await self._insist(partial(self.plant.conductor.job_profiled, self.name, plan.job_id, profile))

    def open(self, instruction: Train) -> tuple[Assignment, Digest]:
        return open_document(DocumentKind.ASSIGNMENT, instruction.assignment, self.plant.manifest_public)

    def _join(self, instruction: Train) -> None:
        assignment, digest = self.open(instruction)
        self._assignment = assignment
        self._reference = RoundRef(
            run_id=assignment.run_id,
            round_number=assignment.round_number,
            assignment_digest=digest,
            roster_digest=Digest(b""),
        )
        self.trained.append(len(assignment.members[self.index].tiles))
        self._agent = AgentRound(
            assignment=assignment,
            assignment_digest=digest,
            index=self.index,
            signer=self.identity.sign,
            root=digest_of(f"root {self.name} {assignment.round_number}"),
        )

    async def _react(self, effects: tuple[agent_effects.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case agent_effects.Advertise(advertisement=advertisement):
                    await self.beat()
                    await self.say(advertisement)
                case agent_effects.SendShares(shares=shares):
                    await self.say(shares)
                case agent_effects.Mask(job=job):
                    payload = bytes(mask_vectors(job, self._vectors()))
                    sha256 = Digest(hashlib.sha256(payload).digest())
                    path = self.plant.folder / f"{self.name}-{sha256.hex()}"
                    path.write_bytes(payload)
                    await self._react(self.agent.masked(sha256, len(payload)))
                case agent_effects.Upload(header=header):
                    await self._insist(partial(self._upload, header))
                case agent_effects.SignSurvivors(signature=signature):
                    await self.say(signature)
                case agent_effects.SendReveal(shares=reveal):
                    await self.say(reveal)
                case agent_effects.PersistRevealed():
                    pass

    async def say(self, message: object, *, index: int | None = None) -> None:
        await self._insist(partial(self._say, message, index))

    async def _insist(self, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Send, and have it sent again after the next connection when this one breaks before the answer."""
        self._unanswered = send
        try:
            while not await self._is_taken(send):  # noqa: ASYNC110 - an agent asks again as well
                await asyncio.sleep(0.01)
        except RavanError:
            self._unanswered = None
            raise
        self._unanswered = None

    async def _is_taken(self, send: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Send once; like an agent, wait for room at the coordinator."""
        try:
            await send()
        except ResourceError as error:
            if error.reason is not ErrorReason.DISK_FULL:
                raise
            return False
        return True

    async def _say(self, message: object, index: int | None) -> None:
        assert self._reference is not None
        submission = Submission(
            round=self._reference,
            index=self.index if index is None else index,
            message=message,  # type: ignore[arg-type] # tests also send what is wrong
        )
        await self.plant.conductor.submit_message(self.name, submission)
        self.plant.services.changes.note(self.assignment.job_id)

    async def accuse(self, suspect: int) -> None:
        """Leave the round, since that member's shares are of no use."""
        job_id, number = self.assignment.job_id, self.assignment.round_number
        await self.plant.conductor.accused(self.name, job_id, number, suspect)
        await self.plant.conductor.left(self.name, job_id, number, DropReason.PROTOCOL)

    async def beat(self) -> None:
        await self.plant.conductor.heartbeat(
            self.name,
            Heartbeat(
                process_id=self.process,
                activity=AgentActivity.TRAINING,
                round_number=self.assignment.round_number,
                peak_rss_bytes=111,
                extra_peak_bytes=22,
                step_cpu_s=0.5,
            ),
        )

    async def _upload(self, header: MaskedHeader) -> None:
        assert self._reference is not None
        await self.plant.conductor.announce(self.name, self._reference, header)
        path = self.plant.folder / f"{self.name}-{header.sha256.hex()}"
        await self.plant.conductor.arrived(self.name, self._reference, header, path)
        self.agent.uploaded()
        self.plant.services.changes.note(self.assignment.job_id)

    def _vectors(self) -> dict[int, np.ndarray]:
        assert self._roster is not None
        blocks = {
            spec.block_id: QuantisedBlock(
                values=np.full(spec.length, self.index + 1, dtype=np.int32), clipped=self.index == 0
            )
            for spec in self.assignment.blocks
        }
        statistics = LocalStatistics(examples=10, loss_sum=5.0, correct=4)
        scores = {head: SCORES[head.matrix] for head in self.assignment.scored_by(self.index)}
        return {
            bundle.bundle_id: assemble(lay_out(self.assignment, bundle), blocks, statistics, scores=scores)
            for bundle in bundles_of(self._roster.bundles, self.index)
        }


class Plant:
    """Coordinator and sites; an asynchronous context manager that stops everything."""

    def __init__(self, folder: Path, sites: int = 4, *, settle_s: float = 30.0, jobs_at_once: int = 0) -> None:
        self.folder = folder
        self.jobs_at_once = jobs_at_once
        self.settle_s = settle_s
        self.store = FullDisk(open_store(MEMORY))
        self.clock = ManualClock()
        self.timers = ManualTimers(self.clock)
        self.bells = Bells()
        self.shelf = Shelf(folder=folder)
        self.metrics = Notebook()
        self.workbench = Workbench()
        self.manifest_public = MANIFEST_KEY.public_key().public_bytes_raw()
        self.services = self._new_services()
        self.conductor = Conductor(self.services, settle_s=settle_s, jobs_at_once=jobs_at_once)
        self.sites = [Site(self, SiteId(f"site-{i}")) for i in range(sites)]

    async def __aenter__(self) -> Self:
        model = ModelRecord(
            name="minilm", files=(), digest=digest_of("model"), model_type="bert", parameters=1, added_at=0.0
        )
        await self.store.transact("put_model", lambda transaction: transaction.put_model(model))
        for site in self.sites:
            await site.enrol()
        await self.conductor.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for site in self.sites:
            await site.disconnect()
        await self.conductor.stop()
        await self.store.close()

    async def restart_daemon(self) -> None:
        """Kill the coordinator's memory; the sites' processes go on and attach again."""
        for site in self.sites:
            await site.disconnect()
        await self.conductor.stop()
        self.conductor = self.new_conductor()
        await self.conductor.start()
        for site in self.sites:
            await site.connect()

    def new_conductor(self) -> Conductor:
        """Return what a new process would begin with."""
        self.services = self._new_services()
        return Conductor(self.services, settle_s=self.settle_s, jobs_at_once=self.jobs_at_once)

    async def instructions(self, name: SiteId) -> Sequence[Numbered]:
        return await self.store.transact("look", lambda transaction: transaction.instructions_after(name, 0))

    def _new_services(self) -> Services:
        return Services(
            store=self.store,
            workshop=self.workbench,
            signatory=Signatory(MANIFEST_KEY),
            mailbox=self.bells,
            uploads=self.shelf,
            metrics=self.metrics,
            timers=self.timers,
            clock=self.clock,
        )

    async def connect_all(self) -> None:
        for site in self.sites:
            await site.connect()

    async def submit(self, **changes: object) -> JobId:
        toml = job_toml(**changes)  # type: ignore[arg-type]
        accepted = await self.conductor.submit_job(toml, EVALUATION, f"request {sorted(changes.items())}")
        return accepted.job_id

    async def until(self, job_id: JobId, is_so: Callable[[JobDetail], bool]) -> JobDetail:
        """Wait until a job's detail is as wanted."""
        version = 0
        async with asyncio.timeout(PATIENCE_S):
            while not is_so(detail := await self.conductor.job_detail(job_id)):
                version = await self.conductor.changed(job_id, version)
        return detail

    async def until_acknowledged(self) -> None:
        """Wait until every site's last message has its answer; operators see what it did before that."""
        async with asyncio.timeout(PATIENCE_S):
            while any(site.awaits_answer for site in self.sites):  # noqa: ASYNC110 - sites are not to be disturbed
                await asyncio.sleep(0)

    async def until_phase(self, job_id: JobId, phase: RoundPhase, number: int = 1) -> RoundRecord:
        detail = await self.until(job_id, lambda detail: any(_is_in(r, phase, number) for r in detail.rounds))
        return detail.rounds[number - 1]

    async def until_ended(self, job_id: JobId, number: int) -> RoundRecord:
        return await self.until_phase(job_id, RoundPhase.ENDED, number)


def _is_in(record: RoundRecord, phase: RoundPhase, number: int) -> bool:
    return record.number == number and record.phase is phase
