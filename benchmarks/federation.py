"""One whole round of HeadSum in memory, with the time that each client and the coordinator spend.

Everything is what the product runs: signed documents that are opened, both machines, quantising,
masking, unmasking from staged files. Left out on both sides of a comparison are training, transport
and TLS; that staged payloads are hashed is measured, and reported apart.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from ravan.codec.documents import open_document, sign_document
from ravan.codec.rounds import encode_assignment, encode_roster
from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec, Member, Suite, Tile
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.plan import Denominator
from ravan.quantisation import quantise_update, rounding_source
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of
from ravan.secagg.combine import RoundSum, decode_sums
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.effects import Advertise, Effect, Mask, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.secagg.packing import Elements
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.unmask import unmask

CLIP: Final = 8.0
"""L2 bound of every block; far above the vectors' norms, so that nothing is clipped."""

HEAD_VALUES: Final = 64 * 64
"""A core of rank 64."""

NOTHING_LEARNT: Final = LocalStatistics(examples=1, loss_sum=0.0, correct=0)

T = TypeVar("T")
E = TypeVar("E", bound=Effect)


def lay_blocks(size: int) -> tuple[BlockSpec, ...]:
    """Divide `size` parameters into cores of rank 64 and one dense block for the rest."""
    heads, rest = divmod(size, HEAD_VALUES)
    specs = [BlockSpec(block_id=BlockId(BlockKind.DENSE, 0, 0, 0), length=rest, clip=CLIP)] if rest else []
    ids = [BlockId(BlockKind.HEAD, 0, matrix, 0) for matrix in range(heads)]
    return (*specs, *(BlockSpec(block_id=block, length=HEAD_VALUES, clip=CLIP) for block in ids))


def assign(identities: list[Ed25519PrivateKey], size: int) -> Assignment:
    """Ask all members for all blocks."""
    blocks = lay_blocks(size)
    heads = tuple(spec.block_id for spec in blocks if spec.block_id.kind is BlockKind.HEAD)
    members = tuple(
        Member(index=i, site=SiteId(f"site-{i}"), identity_key=key.public_key().public_bytes_raw(), tiles=(0,))
        for i, key in enumerate(identities)
    )
    return Assignment(
        run_id=RunId(os.urandom(16)),
        job_id=JobId("job-1"),
        round_number=1,
        plan_digest=Digest(os.urandom(32)),
        state_digest=Digest(os.urandom(32)),
        model_digest=Digest(os.urandom(32)),
        suite=Suite.AES_128_CTR,
        ring_bits=24,
        bundle_threshold=8,
        blocks=blocks,
        tiles=(Tile(tile_id=0, blocks=heads),),
        members=members,
    )


class Stopwatch:
    """Adds up what is run under it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def last(effects: tuple[Effect, ...], kind: type[E]) -> E:
    """Return the last effect, which is of this kind."""
    effect = effects[-1]
    assert isinstance(effect, kind)  # noqa: S101 - narrows the type
    return effect


def going_on(value: T | Abort) -> T:
    """Return what a phase gave; raise RuntimeError when it gave up."""
    if isinstance(value, Abort):
        raise RuntimeError(str(value))
    return value


class Client:
    """One member: the agent's machine, its vector and its stopwatch."""

    def __init__(self, index: int, identity: Ed25519PrivateKey, vector: NDArray[np.float32]) -> None:
        self.index = index
        self.identity = identity
        self.vector = vector
        self.watch = Stopwatch()
        self.quantised: dict[int, Elements] = {}

    def join(self, document: SignedDocument, manifest_key: bytes) -> KeyAdvertisement:
        """Open the assignment and make the round keys."""
        with self.watch.running():
            self.manifest_key = manifest_key
            self.assignment, digest = open_document(DocumentKind.ASSIGNMENT, document, manifest_key)
            self.machine = AgentRound(
                assignment=self.assignment,
                assignment_digest=digest,
                index=self.index,
                signer=self.identity.sign,
                root=os.urandom(32),
            )
            return last(self.machine.finish_training(), Advertise).advertisement

    def share(self, document: SignedDocument) -> SealedShares:
        """Check the roster and deal shares."""
        with self.watch.running():
            self.roster, digest = open_document(DocumentKind.ROSTER, document, self.manifest_key)
            return last(self.machine.roster(self.roster, digest), SendShares).shares

    def mask(self, delivery: ShareDelivery, staged: Path) -> MaskedHeader:
        """Quantise, mask, hash and sign; writing the payload down is not timed."""
        with self.watch.running():
            bundles = bundles_of(self.roster.bundles, self.index)
            deltas = self._deltas()
            self.quantised = quantise_update(
                self.assignment, bundles, deltas, NOTHING_LEARNT, rounding_source(os.urandom(16))
            )
            payload = mask_vectors(last(self.machine.deliver(delivery), Mask).job, self.quantised)
            sha256 = Digest(hashlib.sha256(payload).digest())
            header = last(self.machine.masked(sha256, len(payload)), Upload).header
        staged.write_bytes(payload)
        return header

    def sign(self, survivors: SurvivorSet) -> SurvivorSignature:
        """Check and sign the survivor set."""
        with self.watch.running():
            return last(self.machine.survivors(survivors), SignSurvivors).signature

    def reveal(self, request: RevealRequest) -> RevealedShares:
        """Check the signatures and reveal."""
        with self.watch.running():
            return last(self.machine.reveal(request), SendReveal).shares

    def _deltas(self) -> dict[BlockId, NDArray[np.float32]]:
        deltas, end = {}, 0
        for spec in self.assignment.blocks:
            deltas[spec.block_id] = self.vector[end : end + spec.length]
            end += spec.length
        return deltas


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRun:
    """What the coordinator found, and what it took."""

    result: RoundSum
    seconds: float
    """Its own work: machine, checks of signatures, unmasking, decoding."""
    hashing_seconds: float
    """Hashing the staged payloads, which overlaps the transfers in the product."""


@dataclass
class Federation:
    """All parties of one round; clients answer once, the coordinator can be run again on their messages."""

    vectors: NDArray[np.float32]
    dropped: frozenset[int]
    """Members that share their keys and never upload."""
    folder: Path
    manifest: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        identities = [Ed25519PrivateKey.generate() for _ in self.vectors]
        self.clients = [Client(i, key, self.vectors[i]) for i, key in enumerate(identities)]
        payload = encode_assignment(assign(identities, self.vectors.shape[1]))
        self.document = sign_document(DocumentKind.ASSIGNMENT, payload, self.manifest)
        self.manifest_key = self.manifest.public_key().public_bytes_raw()
        self.assignment, self.digest = open_document(DocumentKind.ASSIGNMENT, self.document, self.manifest_key)
        self.advertised = {c.index: c.join(self.document, self.manifest_key) for c in self.clients}
        self.shares: dict[int, SealedShares] = {}
        self.headers: dict[int, MaskedHeader] = {}
        self.signatures: dict[int, SurvivorSignature] = {}
        self.revealed: dict[int, RevealedShares] = {}

    @property
    def survivors(self) -> list[Client]:
        """Return who uploads."""
        return [client for client in self.clients if client.index not in self.dropped]

    def staged(self, index: int) -> Path:
        """Return where a member's payload lies."""
        return self.folder / str(index)

    def run(self, turn: Callable[[int], None] = lambda _: None) -> ServerRun:
        """Lead the round; `turn` is called before each client masks. Clients that answered are not asked again."""
        own, hashing = Stopwatch(), Stopwatch()
        with own.running():
            machine = CoordinatorRound(assignment=self.assignment, assignment_digest=self.digest)
            for index, advertisement in self.advertised.items():
                machine.advertised(index, advertisement)
            (roster,) = going_on(machine.close_advertise())
            document = sign_document(DocumentKind.ROSTER, encode_roster(roster), self.manifest)
            _, digest = open_document(DocumentKind.ROSTER, document, self.manifest_key)
            machine.rosters_published([digest])
        self.shares = self.shares or {c.index: c.share(document) for c in self.clients}
        with own.running():
            for index, shares in self.shares.items():
                machine.shares(index, shares)
            deliveries = going_on(machine.close_sharing())
        if not self.headers:
            self._collect(deliveries, turn)
        with hashing.running():
            for client in self.survivors:
                hashlib.sha256(self.staged(client.index).read_bytes())
        with own.running():
            for index, header in self.headers.items():
                machine.verify_upload(index, header)
                machine.uploaded(index, header)
            survivor_set = next(iter(going_on(machine.close_upload()).values()))
        self.signatures = self.signatures or {c.index: c.sign(survivor_set) for c in self.survivors}
        with own.running():
            for index, signature in self.signatures.items():
                machine.survivor_signature(index, signature)
            request = next(iter(going_on(machine.close_confirmation()).values()))
        self.revealed = self.revealed or {c.index: c.reveal(request) for c in self.survivors}
        with own.running():
            result = self._unmask(machine)
        return ServerRun(result=result, seconds=own.seconds, hashing_seconds=hashing.seconds)

    def _collect(self, deliveries: dict[int, ShareDelivery], turn: Callable[[int], None]) -> None:
        for client in self.survivors:
            turn(client.index)
            self.headers[client.index] = client.mask(deliveries[client.index], self.staged(client.index))

    def _unmask(self, machine: CoordinatorRound) -> RoundSum:
        for index, shares in self.revealed.items():
            machine.revealed(index, shares)
        (job,) = going_on(machine.close_reveal())
        unmasked = unmask(job, lambda index: self.staged(index).open("rb", buffering=0))
        return decode_sums(self.assignment, [unmasked], Denominator.TRAINERS)
