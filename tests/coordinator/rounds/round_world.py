"""One round in memory: the round machine against real agents of secure aggregation, with chosen silences."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.rounds.course import RoundSetup
from coordinator.rounds.effects import CombineAndEvaluate, Effect, EndRound, RunUnmask, SendInstruction, SignRosters
from coordinator.rounds.events import (
    DeadlinePassed,
    EvaluationDone,
    Event,
    MessageReceived,
    RostersSigned,
    RoundBegun,
    SiteGone,
    SiteMessage,
    UnmaskDone,
    UploadArrived,
)
from coordinator.rounds.machine import RoundMachine
from coordinator.rounds.results import Evaluation, NewVersion, SummedRound
from coordinator.rounds.states import COLLECTING, RoundState
from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec, Member, Suite, Tile
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    Instruction,
    MaskAndUpload,
    Reveal,
    RoundRef,
    RoundResult,
    Train,
)
from ravan.manifest.phases import DropReason
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.secagg import effects as agent_effects
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.combine import decode_sums
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import MaskedHeader
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.unmask import UnmaskJob, unmask
from ravan.secagg.vectors import QuantisedBlock, assemble

DENSE = BlockId(BlockKind.DENSE, 0, 0, 0)
VERSION = NewVersion(state_digest=Digest(b"v" * 32), evaluation=Evaluation(accuracy=0.5, loss=1.0))
DIGEST = Digest(b"a" * 32)


def roster_digest(roster: Roster) -> Digest:
    return Digest(seeded("roster", *(entry.index for entry in roster.entries)))


def sign_roster(roster: Roster) -> tuple[SignedDocument, Digest]:
    return SignedDocument(payload=b"roster", signature=b""), roster_digest(roster)


TRAINING_DEADLINE_S = 100.0
PHASE_DEADLINE_S = 10.0


def head(matrix: int) -> BlockId:
    return BlockId(BlockKind.HEAD, 0, matrix, 0)


def seeded(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def identity(site: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seeded("identity", site))


def site(index: int) -> SiteId:
    return SiteId(f"site-{index}")


def make_assignment(tiles_of: Sequence[Sequence[int]], *, threshold: int = 3) -> Assignment:
    """Two tiles of one head each; member i trains the tiles of entry i."""
    members = tuple(
        Member(
            index=i,
            site=site(i),
            identity_key=identity(site(i)).public_key().public_bytes_raw(),
            tiles=tuple(mine),
        )
        for i, mine in enumerate(tiles_of)
    )
    return Assignment(
        run_id=RunId(bytes(16)),
        job_id=JobId("job"),
        round_number=1,
        plan_digest=Digest(seeded("plan")),
        state_digest=Digest(seeded("state")),
        model_digest=Digest(seeded("model")),
        suite=Suite.AES_128_CTR,
        ring_bits=24,
        bundle_threshold=threshold,
        blocks=(
            BlockSpec(block_id=DENSE, length=3, clip=1.0),
            BlockSpec(block_id=head(0), length=4, clip=1.0),
            BlockSpec(block_id=head(1), length=4, clip=1.0),
        ),
        tiles=(Tile(tile_id=0, blocks=(head(1),)), Tile(tile_id=1, blocks=(head(0),))),
        members=members,
    )


ALL_FULL = ((0, 1),) * 5


@dataclass
class World:
    """A machine, its agents, and the messages between them."""

    tiles_of: Sequence[Sequence[int]] = ALL_FULL
    now: float = 1000.0
    silent_in: Mapping[SiteId, RoundState] = field(default_factory=dict)
    """From which state on a site says nothing."""

    def __post_init__(self) -> None:
        self.assignment = make_assignment(self.tiles_of)
        document = SignedDocument(payload=b"assignment", signature=b"")
        setup = RoundSetup(
            assignment=self.assignment,
            document=document,
            digest=DIGEST,
            training_deadline_s=TRAINING_DEADLINE_S,
            phase_deadline_s=PHASE_DEADLINE_S,
        )
        self.machine = RoundMachine(setup)
        self.agents = {member.site: self._agent(member.index) for member in self.assignment.members}
        self.index = {member.site: member.index for member in self.assignment.members}
        self.effects: list[Effect] = []
        self.said: list[MessageReceived | UploadArrived] = []
        self.vectors: dict[int, dict[BlockId, list[int]]] = {}
        self.payloads: dict[int, bytes] = {}
        self.jobs: tuple[UnmaskJob, ...] = ()
        self._inbox: deque[tuple[SiteId, Instruction]] = deque()

    def _agent(self, index: int) -> AgentRound:
        return AgentRound(
            assignment=self.assignment,
            assignment_digest=DIGEST,
            index=index,
            signer=identity(site(index)).sign,
            root=seeded("root", index),
        )

    # Driving

    def feed(self, event: Event) -> tuple[Effect, ...]:
        """Hand one event over and queue what it sends; signing is instantaneous."""
        effects = self.machine.handle(event)
        self.effects.extend(effects)
        for effect in effects:
            if isinstance(effect, SendInstruction):
                self._inbox.append((effect.site, effect.instruction))
            elif isinstance(effect, SignRosters):
                self.feed(RostersSigned(at=self.now, signed=tuple(map(sign_roster, effect.rosters))))
            elif isinstance(effect, RunUnmask):
                self.jobs = effect.jobs
        return effects

    def begin(self) -> None:
        self.feed(RoundBegun(at=self.now))

    def pump(self) -> None:
        """Let agents answer until nobody has anything to say."""
        while self._inbox:
            name, instruction = self._inbox.popleft()
            if not self.is_silent(name):
                self.answer(name, instruction)

    def run_to(self, state: RoundState) -> None:
        """Lead an honest round until it stands in `state`; sites answer one state after the other."""
        self.begin()
        while self.machine.state is not state and self._inbox:
            batch, self._inbox = list(self._inbox), deque()
            for name, instruction in batch:
                self.answer(name, instruction)
        if self.machine.state is RoundState.UNMASKING and state is RoundState.EVALUATING:
            self.finish_unmasking()
        assert self.machine.state is state, self.machine.state

    def is_silent(self, name: SiteId) -> bool:
        since = self.silent_in.get(name)
        if since is None or self.machine.state not in COLLECTING:
            return False
        return COLLECTING.index(self.machine.state) >= COLLECTING.index(since)

    def lose(self, *names: SiteId, reason: DropReason = DropReason.DISCONNECTED) -> None:
        for name in names:
            self.feed(SiteGone(at=self.now, site=name, reason=reason))

    def pass_deadline(self) -> None:
        """Move the clock to the state's deadline."""
        assert self.machine.deadline_at is not None
        self.now = self.machine.deadline_at
        self.feed(DeadlinePassed(at=self.now, state=self.machine.state))

    def finish_unmasking(self) -> CombineAndEvaluate:
        """Unmask for real and hand the sums over."""
        unmasked = [unmask(job, lambda index: io.BytesIO(self.payloads[index])) for job in self.jobs]
        total = decode_sums(self.assignment, unmasked, Denominator.TRAINERS)
        summed = SummedRound(total=total, sums_digest=Digest(b"s" * 32), seconds=0.5)
        return self.only(self.feed(UnmaskDone(at=self.now, summed=summed)), CombineAndEvaluate)

    def finish(self) -> CombineAndEvaluate:
        """Unmask, evaluate and commit."""
        combine = self.finish_unmasking()
        self.feed(EvaluationDone(at=self.now, version=VERSION))
        return combine

    # Agents

    def answer(self, name: SiteId, instruction: Instruction) -> None:
        agent = self.agents[name]
        match instruction:
            case Train():
                self.react(name, agent.finish_training())
            case ExchangeShares():
                roster = self.roster_of(self.index[name])
                assert roster is not None
                self.react(name, agent.roster(roster, roster_digest(roster)))
            case MaskAndUpload(delivery=delivery):
                self.react(name, agent.deliver(delivery))
            case ConfirmSurvivors(survivors=survivors):
                self.react(name, agent.survivors(survivors))
            case Reveal(request=request):
                self.react(name, agent.reveal(request))
            case _:
                pass

    def react(self, name: SiteId, effects: tuple[agent_effects.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case agent_effects.Advertise(advertisement=advertisement):
                    self.say(name, advertisement)
                case agent_effects.SendShares(shares=shares):
                    self.say(name, shares)
                case agent_effects.Mask(job=job):
                    payload = bytes(mask_vectors(job, self._vectors(self.index[name])))
                    self.payloads[self.index[name]] = payload
                    sha256 = Digest(hashlib.sha256(payload).digest())
                    self.react(name, self.agents[name].masked(sha256, len(payload)))
                case agent_effects.Upload(header=header):
                    self.upload(name, header)
                case agent_effects.SignSurvivors(signature=signature):
                    self.say(name, signature)
                case agent_effects.SendReveal(shares=reveal):
                    self.say(name, reveal)
                case agent_effects.PersistRevealed():
                    pass

    def say(self, name: SiteId, message: SiteMessage) -> None:
        event = MessageReceived(
            at=self.now, site=name, reference=self.reference(name), index=self.index[name], message=message
        )
        self.said.append(event)
        self.feed(event)

    def upload(self, name: SiteId, header: MaskedHeader) -> None:
        event = UploadArrived(at=self.now, site=name, reference=self.reference(name), header=header)
        self.said.append(event)
        self.feed(event)
        self.agents[name].uploaded()

    def roster_of(self, index: int) -> Roster | None:
        return next((r for r in self.machine.rosters if any(entry.index == index for entry in r.entries)), None)

    def reference(self, name: SiteId) -> RoundRef:
        roster = self.roster_of(self.index[name])
        return RoundRef(
            run_id=self.assignment.run_id,
            round_number=self.assignment.round_number,
            assignment_digest=DIGEST,
            roster_digest=Digest(b"") if roster is None else roster_digest(roster),
        )

    def _vectors(self, index: int) -> dict[int, np.ndarray]:
        roster = self.roster_of(index)
        assert roster is not None
        blocks = {}
        for spec in self.assignment.blocks:
            values = np.arange(spec.length, dtype=np.int32) * (index + 1) - 2 * index
            blocks[spec.block_id] = QuantisedBlock(values=values, clipped=False)
        self.vectors[index] = {block: quantised.values.tolist() for block, quantised in blocks.items()}
        statistics = LocalStatistics(examples=10 + index, loss_sum=1.5, correct=index)
        return {
            bundle.bundle_id: assemble(lay_out(self.assignment, bundle), blocks, statistics)
            for bundle in bundles_of(roster.bundles, index)
        }

    # Looking

    def plain_sum(self, block: BlockId, members: Sequence[int]) -> list[int]:
        rows = [self.vectors[i][block] for i in members]
        return [sum(column) for column in zip(*rows, strict=True)]

    def results(self) -> dict[SiteId, list[RoundResult]]:
        found: dict[SiteId, list[RoundResult]] = {member.site: [] for member in self.assignment.members}
        for effect in self.effects:
            if isinstance(effect, SendInstruction) and isinstance(effect.instruction, RoundResult):
                found[effect.site].append(effect.instruction)
        return found

    def ends(self) -> list[EndRound]:
        return [effect for effect in self.effects if isinstance(effect, EndRound)]

    def sent(self, kind: type[Instruction]) -> set[SiteId]:
        return {
            effect.site
            for effect in self.effects
            if isinstance(effect, SendInstruction) and isinstance(effect.instruction, kind)
        }

    @staticmethod
    def only(effects: tuple[Effect, ...], kind: type[CombineAndEvaluate]) -> CombineAndEvaluate:
        found = [effect for effect in effects if isinstance(effect, kind)]
        assert len(found) == 1
        return found[0]
