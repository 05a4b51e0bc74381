"""A real agent session against a played coordinator over mutual TLS, and rounds led for it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from scripted_headquarters import Arrived, Headquarters
from secagg_driver import sole
from tiny_jobs import TinyJob, identity_key, tiny_assignment
from worker_thread import WorkerThread

from edge_agent.app import build_session
from edge_agent.config import AgentFile, load_config
from edge_agent.identity.keystore import Identity, load_identity
from edge_agent.secure.notes import RoundNotes
from edge_agent.secure.round import SecureRound
from edge_agent.session.connection import Coordinator
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from edge_agent.worker.port import Worker
from ravan.adapters.state import block_shapes, encode_state, initial_state
from ravan.codec.documents import encode_assignment, encode_plan, encode_roster, sign_document
from ravan.codec.secagg_messages import Submission
from ravan.identity.keys import raw_public
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    MaskAndUpload,
    Prepare,
    Reveal,
    RoundRef,
    RoundResult,
    Train,
)
from ravan.manifest.phases import RoundOutcome
from ravan.manifest.plan import JobPlan
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.messages import RevealedShares, RevealRequest, SealedShares, SurvivorSet, SurvivorSignature
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.transcript import document_digest
from ravan.secagg.unmask import UnmaskJob

# Other tests use the processor as well; training that steps back for them might never come to its end.
_BESIDE_OTHER_TESTS = {"RAVAN_AGENT_THREADS": "1", "RAVAN_HOST_LOW_PRIORITY": "false"}

TILES = ((0, 1), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))


@dataclass
class World:
    """Headquarters, one agent's folder, and a job for it."""

    root: Path
    hq: Headquarters
    job: TinyJob
    config_path: Path

    @property
    def plan(self) -> JobPlan:
        return self.job.plan

    @property
    def plan_digest(self) -> Digest:
        return document_digest(DocumentKind.PLAN, encode_plan(self.plan))

    @property
    def identity(self) -> Identity:
        return load_identity(self.config_path.parent / "identity")

    @property
    def kept(self) -> Path:
        return self.root / "kept"

    @asynccontextmanager
    async def agent(
        self, environment: dict[str, str] | None = None, worker_of: Callable[[AgentFile], Worker] = WorkerThread
    ) -> AsyncIterator[asyncio.Event]:
        """Run a session, its worker in a thread unless told otherwise; yields what stops it."""
        config = load_config(self.config_path, _BESIDE_OTHER_TESTS | (environment or {}))
        coordinator, stop = Coordinator(self.identity), asyncio.Event()
        worker = worker_of(config)
        running = asyncio.create_task(build_session(config, self.identity, coordinator, worker, self.kept).run(stop))
        try:
            yield stop
        finally:
            stop.set()
            await running
            await coordinator.close()
            await asyncio.to_thread(worker.rest)

    @overload
    def sign(self, kind: Literal[DocumentKind.PLAN], value: JobPlan) -> SignedDocument: ...
    @overload
    def sign(self, kind: Literal[DocumentKind.ASSIGNMENT], value: Assignment) -> SignedDocument: ...
    @overload
    def sign(self, kind: Literal[DocumentKind.ROSTER], value: Roster) -> SignedDocument: ...
    def sign(self, kind: DocumentKind, value: Any) -> SignedDocument:
        encoders: dict[DocumentKind, Any] = {
            DocumentKind.PLAN: encode_plan,
            DocumentKind.ASSIGNMENT: encode_assignment,
            DocumentKind.ROSTER: encode_roster,
        }
        return sign_document(kind, encoders[kind](value), self.hq.manifest_key)

    def prepare(self) -> None:
        for file in self.plan.model_files:
            self.hq.blobs.put((self.job.folder / file.path).read_bytes())
        self.hq.tell(Prepare(plan=self.sign(DocumentKind.PLAN, self.plan)))

    def assignment(self, number: int = 1, scored_of: tuple[tuple[int, ...], ...] = ()) -> Assignment:
        made = tiny_assignment(self.plan, TILES, scored_of=scored_of, round_number=number)
        own = dataclasses.replace(made.members[0], identity_key=raw_public(self.identity.identity_key))
        return dataclasses.replace(made, plan_digest=self.plan_digest, members=(own, *made.members[1:]))

    def train(self, number: int = 1, assignment: Assignment | None = None) -> tuple[Assignment, Digest]:
        assignment = assignment or self.assignment(number)
        self.hq.blobs.put(encode_state(self.plan, initial_state(self.plan)))
        self.hq.tell(Train(assignment=self.sign(DocumentKind.ASSIGNMENT, assignment)))
        return assignment, document_digest(DocumentKind.ASSIGNMENT, encode_assignment(assignment))


class Round:
    """Three stand-ins and the real agent, led by the coordinator's machine."""

    def __init__(self, world: World, assignment: Assignment, digest: Digest) -> None:
        self.world, self.assignment, self.digest = world, assignment, digest
        self.machine = CoordinatorRound(assignment=assignment, assignment_digest=digest)
        self.payloads: dict[int, Path] = {}
        self.roster_digest = Digest(b"")
        self.others = {i: self._stand_in(i) for i in (1, 2, 3)}

    def _stand_in(self, index: int) -> SecureRound:
        notes = RoundNotes(self.world.root / f"other-{index}-{self.digest.hex()[:8]}")
        return SecureRound(
            assignment=self.assignment,
            assignment_digest=self.digest,
            index=index,
            identity_key=identity_key(index),
            minimum_bundle_threshold=3,
            notes=notes,
            opening=notes.begin(self.reference, b"p" * 16),
        )

    def _zero_update(self, index: int) -> TrainingOutcome:
        shapes = block_shapes(self.world.plan)
        deltas = {block: np.zeros(shapes[block], np.float32) for block in self.assignment.blocks_of(index)}
        statistics = LocalStatistics(examples=0, loss_sum=0.0, correct=0)
        return TrainingOutcome(
            deltas=deltas,
            statistics=statistics,
            held_examples=0,
            scores=dict.fromkeys(self.assignment.scored_by(index), 0.0),
            cost=TrainingCost(extra_peak_bytes=0, step_cpu_s=0),
        )

    @property
    def reference(self) -> RoundRef:
        return RoundRef(
            run_id=self.assignment.run_id,
            round_number=self.assignment.round_number,
            assignment_digest=self.digest,
            roster_digest=self.roster_digest,
        )

    async def message(self, kind: type) -> Any:
        submission = await self.world.hq.hear(Submission)
        assert submission.index == 0
        assert submission.round == self.reference
        assert isinstance(submission.message, kind)
        return submission.message

    async def trained(self) -> None:
        """Wait until the agent has trained and sent its round keys."""
        await self.message(RosterEntry)

    async def advertise(self) -> None:
        self.machine.advertised(0, await self.message(RosterEntry))
        for i, other in self.others.items():
            self.machine.advertised(i, other.finish_training(self._zero_update(i)))

    async def share(self) -> None:
        roster = sole(self.machine.close_advertise())
        assert isinstance(roster, Roster)
        self.roster_digest = document_digest(DocumentKind.ROSTER, encode_roster(roster))
        self.machine.rosters_published([self.roster_digest])
        self.world.hq.tell(ExchangeShares(roster=self.world.sign(DocumentKind.ROSTER, roster)))
        self.machine.shares(0, await self.message(SealedShares))
        for i, other in self.others.items():
            self.machine.shares(i, other.share(roster, self.roster_digest))

    async def upload(self) -> None:
        deliveries = self.machine.close_sharing()
        assert not isinstance(deliveries, Abort)
        self.world.hq.tell(MaskAndUpload(round=self.reference, delivery=deliveries[0]))
        arrived = await self.world.hq.hear(Arrived)
        self.machine.uploaded(0, arrived.header)
        self.payloads[0] = arrived.path
        for i, other in self.others.items():
            masked = other.mask(deliveries[i])
            self.machine.uploaded(i, masked.header)
            self.payloads[i] = masked.path

    async def confirm(self) -> RevealRequest:
        survivors = sole(self.machine.close_upload())
        assert isinstance(survivors, SurvivorSet)
        self.world.hq.tell(ConfirmSurvivors(round=self.reference, survivors=survivors))
        self.machine.survivor_signature(0, await self.message(SurvivorSignature))
        for i, other in self.others.items():
            self.machine.survivor_signature(i, other.confirm(survivors))
        request = sole(self.machine.close_confirmation())
        assert isinstance(request, RevealRequest)
        return request

    async def reveal(self, request: RevealRequest) -> UnmaskJob:
        self.world.hq.tell(Reveal(round=self.reference, request=request))
        self.machine.revealed(0, await self.message(RevealedShares))
        for i, other in self.others.items():
            self.machine.revealed(i, other.reveal(request))
        job = sole(self.machine.close_reveal())
        assert isinstance(job, UnmaskJob)
        return job

    async def run(self) -> UnmaskJob:
        await self.advertise()
        await self.share()
        await self.upload()
        return await self.reveal(await self.confirm())

    def finish(self, *, dropped: bool = False, outcome: RoundOutcome = RoundOutcome.COMMITTED) -> None:
        committed = outcome is RoundOutcome.COMMITTED
        self.world.hq.tell(
            RoundResult(
                run_id=self.assignment.run_id,
                round_number=self.assignment.round_number,
                outcome=outcome,
                state_digest=Digest(hashlib.sha256(b"next").digest() if committed else b""),
                dropped=dropped,
            )
        )


async def end_before_masking(world: World, number: int, assignment: Assignment | None = None) -> Round:
    """Lead a round to the shares, and end it there for want of sites."""
    current = Round(world, *world.train(number, assignment))
    await current.advertise()
    await current.share()
    current.finish(outcome=RoundOutcome.TOO_FEW_SITES)
    return current
