"""A federation in memory: builds assignments and leads whole rounds with chosen drop-outs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.errors import ErrorReason, RavanError
from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec, Member, Suite, Tile, Weighting
from ravan.manifest.roster import Roster
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of, lay_out
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.effects import Advertise, Effect, Mask, PersistRevealed, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import RevealedShares, RevealRequest, ShareDelivery, SurvivorSet
from ravan.secagg.packing import RING, Elements, add_page, packed_bytes
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.unmask import Unmasked, UnmaskJob, unmask
from ravan.secagg.vectors import QuantisedBlock, assemble

DENSE = BlockId(BlockKind.DENSE, 0, 0, 0)
E = TypeVar("E", bound=Effect)
T = TypeVar("T")


def refused(reason: ErrorReason, action: Callable[[], object], match: str = ".") -> None:
    """Assert that the action raises an error of this reason that says what to do."""
    with pytest.raises(RavanError, match=match) as caught:
        action()
    assert caught.value.reason is reason
    assert caught.value.next_step


def unpacked_page(page: memoryview, ring_bits: int = 24) -> list[int]:
    """The elements of a packed page, as unmasking adds them to nothing."""
    elements = np.zeros(len(page) // packed_bytes(ring_bits), RING)
    add_page(page, elements, np.empty_like(elements), ring_bits)
    return [int(element) for element in elements]


def sole(outcome: tuple[T, ...] | dict[int, T] | Abort) -> T | Abort:
    """What a round with one group goes on with."""
    if isinstance(outcome, Abort):
        return outcome
    values = list(outcome.values()) if isinstance(outcome, dict) else list(outcome)
    assert all(value is values[0] for value in values)
    return values[0]


def head(matrix: int, index: int = 0) -> BlockId:
    return BlockId(BlockKind.HEAD, 0, matrix, index)


def seeded(*parts: object) -> bytes:
    """32 reproducible bytes; a stand-in for secrets in tests."""
    return hashlib.sha256(repr(parts).encode()).digest()


def identity(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seeded("identity", index))


def make_assignment(
    tiles: Sequence[Sequence[int]],
    *,
    threshold: int = 3,
    lengths: Sequence[int] = (9, 5, 7),
    dense: int = 6,
    suite: Suite = Suite.AES_128_CTR,
    ring_bits: int = 24,
    rotate: bool = False,
    weighting: Weighting | None = None,
    scored: Sequence[Sequence[int]] = (),
) -> Assignment:
    """One member per entry of `tiles`, trained and scored tiles as given; tile i has one head of lengths[i]."""
    heads = [BlockSpec(block_id=head(i), length=length, clip=0.5 + i) for i, length in enumerate(lengths)]
    members = tuple(
        Member(
            index=i,
            site=SiteId(f"site-{i}"),
            identity_key=identity(i).public_key().public_bytes_raw(),
            tiles=tuple(mine),
            scored_tiles=tuple(scored[i]) if scored else (),
        )
        for i, mine in enumerate(tiles)
    )
    return Assignment(
        run_id=RunId(bytes(16)),
        job_id=JobId("job"),
        round_number=1,
        plan_digest=Digest(seeded("plan")),
        state_digest=Digest(seeded("state")),
        model_digest=Digest(seeded("model")),
        suite=suite,
        ring_bits=ring_bits,
        bundle_threshold=threshold,
        rotate=rotate,
        weighting=weighting,
        blocks=(BlockSpec(block_id=DENSE, length=dense, clip=1.0), *heads),
        tiles=tuple(Tile(tile_id=i, blocks=(head(i),)) for i in range(len(lengths))),
        members=members,
    )


def only(effects: tuple[Effect, ...], kind: type[E]) -> E:
    """The last effect, which must be of this kind."""
    effect = effects[-1]
    assert isinstance(effect, kind), effects
    return effect


def random_blocks(assignment: Assignment, index: int) -> dict[BlockId, QuantisedBlock]:
    """The full range of quantised values, both extremes included where there is room."""
    generator = np.random.default_rng(index)
    limit = assignment.quantum_limit
    blocks = {}
    for spec in assignment.blocks:
        values = generator.integers(-limit, limit, spec.length, dtype=np.int32, endpoint=True)
        values[: min(2, spec.length)] = (limit, -limit)[: spec.length]
        blocks[spec.block_id] = QuantisedBlock(values=values, clipped=bool(generator.integers(2)))
    return blocks


def statistics_of(index: int) -> LocalStatistics:
    return LocalStatistics(examples=100_000 + index, loss_sum=12345.5 + index, correct=70_000 + 2 * index)


def scores_of(assignment: Assignment, index: int) -> dict[BlockId, float]:
    """Both ends of the range where there is room, and anything between."""
    heads = sorted(assignment.scored_by(index))
    drawn = np.random.default_rng((index, 7)).random(len(heads)).tolist()
    return dict(zip(heads, [1.0, 0.0, *drawn], strict=False))


@dataclass
class Federation:
    """Members and coordinator of one round; each step takes who answers in it."""

    assignment: Assignment
    digest: Digest = field(default_factory=lambda: Digest(seeded("assignment")))
    roster_digest: Digest = field(default_factory=lambda: Digest(seeded("roster")))
    roster: Roster | None = None
    mask_set: tuple[int, ...] = ()
    survivor_set: SurvivorSet | None = None

    def __post_init__(self) -> None:
        self.coordinator = CoordinatorRound(assignment=self.assignment, assignment_digest=self.digest)
        self.agents = {member.index: self.agent(member.index) for member in self.assignment.members}
        self.vectors: dict[int, dict[int, Elements]] = {}
        self.payloads: dict[int, bytes] = {}
        self.revealed: dict[int, RevealedShares] = {}

    def agent(self, index: int, **changes: object) -> AgentRound:
        arguments: dict[str, object] = {
            "assignment": self.assignment,
            "assignment_digest": self.digest,
            "index": index,
            "signer": identity(index).sign,
            "root": seeded("root", index),
        }
        return AgentRound(**{**arguments, **changes})  # type: ignore[arg-type]

    def advertise(self, finishers: Sequence[int]) -> Roster | Abort:
        for i in finishers:
            self.coordinator.advertised(i, only(self.agents[i].finish_training(), Advertise).advertisement)
        roster = sole(self.coordinator.close_advertise())
        if isinstance(roster, Roster):
            self.roster = roster
            self.coordinator.rosters_published([self.roster_digest])
        return roster

    def share(self, sharers: Sequence[int]) -> dict[int, ShareDelivery] | Abort:
        assert self.roster is not None
        for i in sharers:
            effect = only(self.agents[i].roster(self.roster, self.roster_digest), SendShares)
            self.coordinator.shares(i, effect.shares)
        deliveries = self.coordinator.close_sharing()
        if not isinstance(deliveries, Abort):
            self.mask_set = tuple(deliveries)
        return deliveries

    def mask(self, index: int, delivery: ShareDelivery) -> Upload:
        """Mask and stage a member's payload without telling the coordinator."""
        assert self.roster is not None
        job = only(self.agents[index].deliver(delivery), Mask).job
        blocks, statistics = random_blocks(self.assignment, index), statistics_of(index)
        weighting = self.assignment.weighting
        weight = 1 if weighting is None else 1 + index % weighting.limit
        scores = scores_of(self.assignment, index)
        self.vectors[index] = {
            bundle.bundle_id: assemble(lay_out(self.assignment, bundle), blocks, statistics, weight, scores)
            for bundle in bundles_of(self.roster.bundles, index)
        }
        payload = bytes(mask_vectors(job, self.vectors[index]))
        self.payloads[index] = payload
        sha256 = Digest(hashlib.sha256(payload).digest())
        return only(self.agents[index].masked(sha256, len(payload)), Upload)

    def upload(self, deliveries: dict[int, ShareDelivery], uploaders: Sequence[int]) -> SurvivorSet | Abort:
        """Let all of U2 mask, and `uploaders` arrive."""
        for i, delivery in deliveries.items():
            effect = self.mask(i, delivery)
            if i in uploaders:
                self.coordinator.verify_upload(i, effect.header)
                self.coordinator.uploaded(i, effect.header)
                assert self.agents[i].uploaded() == ()
        survivor_set = sole(self.coordinator.close_upload())
        if isinstance(survivor_set, SurvivorSet):
            self.survivor_set = survivor_set
        return survivor_set

    def confirm(self, signers: Sequence[int]) -> RevealRequest | Abort:
        """Let all survivors sign, and `signers` be heard."""
        assert self.survivor_set is not None
        for i in self.survivor_set.survivors:
            signature = only(self.agents[i].survivors(self.survivor_set), SignSurvivors).signature
            if i in signers:
                self.coordinator.survivor_signature(i, signature)
        return sole(self.coordinator.close_confirmation())

    def reveal(self, request: RevealRequest, revealers: Sequence[int]) -> UnmaskJob | Abort:
        for i in revealers:
            effects = self.agents[i].reveal(request)
            assert [type(effect) for effect in effects] == [PersistRevealed, SendReveal]
            self.revealed[i] = only(effects, SendReveal).shares
            self.coordinator.revealed(i, self.revealed[i])
        return sole(self.coordinator.close_reveal())

    def unmask(self, job: UnmaskJob, progress: Callable[[int, int], None] | None = None) -> Unmasked:
        return unmask(job, lambda index: io.BytesIO(self.payloads[index]), progress)

    def run(
        self,
        *,
        finishers: Sequence[int],
        sharers: Sequence[int],
        uploaders: Sequence[int],
        revealers: Sequence[int],
    ) -> Unmasked:
        """A round that is expected to succeed."""
        return self.unmask(self.run_to_job(finishers, sharers, uploaders, revealers))

    def run_to_job(
        self, finishers: Sequence[int], sharers: Sequence[int], uploaders: Sequence[int], revealers: Sequence[int]
    ) -> UnmaskJob:
        roster = self.advertise(finishers)
        assert isinstance(roster, Roster), roster
        request = self.run_to_request(sharers, uploaders)
        job = self.reveal(request, revealers)
        assert isinstance(job, UnmaskJob), job
        return job

    def run_to_request(self, sharers: Sequence[int], uploaders: Sequence[int]) -> RevealRequest:
        deliveries = self.share(sharers)
        assert not isinstance(deliveries, Abort), deliveries
        survivor_set = self.upload(deliveries, uploaders)
        assert isinstance(survivor_set, SurvivorSet), survivor_set
        request = self.confirm(survivor_set.survivors)
        assert isinstance(request, RevealRequest), request
        return request

    def plain_sum(self, bundle_id: int, survivors: Sequence[int]) -> list[int]:
        """The sum of the survivors' vectors modulo the ring in plain integers."""
        rows = [self.vectors[i][bundle_id].tolist() for i in survivors if bundle_id in self.vectors[i]]
        return [sum(column) % (1 << self.assignment.ring_bits) for column in zip(*rows, strict=True)]
