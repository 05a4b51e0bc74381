"""The assignment: what one round asks of whom, signed before training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId

BUNDLE_FLOOR = 3
"""Least survivors of a released bundle: with 2, each learns the other's update."""

MAX_TILES = 16
"""Most tiles in a round; bounds the bundles of an agent and so its shares."""

MAX_GROUP = 128
"""Most members that mask with each other: all pairs do, so that costs grow with the square."""

MAX_MEMBERS = 4096
"""Most members of a round; beyond `MAX_GROUP` finishers they mask in several groups."""

RING_WIDTHS = (16, 24, 32)
"""Bits that a masked number may have."""


class Suite(IntEnum):
    """Keystream that expands masks; one suite serves a whole round."""

    AES_128_CTR = 1
    AES_256_CTR = 2
    CHACHA20 = 3
    """For rounds with a CPU without AES instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """One block of parameters as it lies in the masked vector."""

    block_id: BlockId
    length: int
    """Number of ring elements: rows x cols, row-major; the clip flag is extra."""
    clip: float
    """L2 bound C of the block's delta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A set of head blocks that is allotted as one."""

    tile_id: int
    """0 is the uppermost tile: weak sites get the lowest ids first."""
    blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One site selected for the round."""

    index: int
    """Position in this round, from 0; used in every secure-aggregation message."""
    site: SiteId
    identity_key: bytes
    """Ed25519 public key proved at enrolment, 32 bytes."""
    tiles: tuple[int, ...]
    """Ids of the tiles that this site trains, ascending; dense blocks are trained by all."""
    scored_tiles: tuple[int, ...] = ()
    """Ids of the tiles whose heads this site scores before it trains, ascending; empty where no scores are wanted."""
    endorsement: bytes = b""
    """The owner's signature under site and identity key, 64 bytes; empty when there is none."""

    @property
    def allotment(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what puts members into one class: the tiles that they train, and those that they score."""
        return self.tiles, self.scored_tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """The weighted profile: an update counts by how many examples its site has.

    Since the weight is repeated in every bundle, members are kept in cells that are released whole or not at all.
    """

    limit: int
    """W_max: largest weight; a site has at least 1."""
    unit: int
    """Examples that make one unit of weight."""
    cell_minimum: int
    """Least assigned members of a cell."""
    cell_threshold: int
    """t_cell: least survivors of a cell that has any, in each released bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one round asks of whom."""

    run_id: RunId
    job_id: JobId
    round_number: int
    """From 1, strictly increasing within a run."""
    plan_digest: Digest
    """Digest of the signed job plan; binds model, adapter and training settings."""
    state_digest: Digest
    """SHA-256 of the model version (cores and dense blocks) that training starts from."""
    model_digest: Digest
    """Digest over the base model's file list."""
    suite: Suite
    ring_bits: int
    """k: all sums are modulo 2^k."""
    bundle_threshold: int
    """t_B: least survivors for a bundle to be released."""
    rotate: bool = False
    """Whether cores with a power of two of rows are rotated before they are brought into fixed point."""
    weighting: Weighting | None = None
    """Terms of the weighted profile; None: the uniform profile, where every site counts the same."""
    blocks: tuple[BlockSpec, ...]
    """Dense blocks first, then heads, each by ascending id."""
    tiles: tuple[Tile, ...]
    members: tuple[Member, ...]
    """By ascending index, without gaps."""

    @property
    def group_size(self) -> int:
        """Return the most members whose vectors may come into one sum modulo 2^k."""
        return min(len(self.members), MAX_GROUP)

    @property
    def quantum_limit(self) -> int:
        """Return Q: the largest |coordinate| for which the sum over a whole group cannot wrap."""
        return ((1 << self.ring_bits - 1) - 1) // self.group_size

    def blocks_of(self, index: int) -> frozenset[BlockId]:
        """Return the blocks that member `index` trains, dense ones included."""
        dense = {b.block_id for b in self.blocks if b.block_id.kind is BlockKind.DENSE}
        return self._heads_in(self.members[index].tiles) | dense

    def scored_by(self, index: int) -> frozenset[BlockId]:
        """Return the heads that member `index` scores."""
        return self._heads_in(self.members[index].scored_tiles)

    def _heads_in(self, tiles: tuple[int, ...]) -> frozenset[BlockId]:
        return frozenset(block for tile in self.tiles if tile.tile_id in tiles for block in tile.blocks)
