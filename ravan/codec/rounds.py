"""Assignment and roster in their serialised form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ravan.codec import enums, fields
from ravan.codec.plans import check_version
from ravan.ids import BlockId, BlockKind, JobId
from ravan.manifest.assignment import (
    MAX_GROUP,
    MAX_MEMBERS,
    MAX_TILES,
    RING_WIDTHS,
    Assignment,
    BlockSpec,
    Member,
    Tile,
    Weighting,
)
from ravan.manifest.roster import Bundle, Roster, RosterEntry
from ravan.version import PROTOCOL_VERSION
from ravan.wire.v1 import round_pb2


def encode_assignment(value: Assignment) -> bytes:
    """Serialise an assignment; equal assignments give equal bytes."""
    wire = round_pb2.Assignment(
        protocol_version=PROTOCOL_VERSION,
        run_id=value.run_id,
        job_id=value.job_id,
        round=value.round_number,
        plan_digest=value.plan_digest,
        state_digest=value.state_digest,
        model_digest=value.model_digest,
        suite=enums.SUITE.to_wire(value.suite),
        ring_bits=value.ring_bits,
        bundle_threshold=value.bundle_threshold,
        blocks=(round_pb2.BlockSpec(block_id=b.block_id.pack(), length=b.length, clip=b.clip) for b in value.blocks),
        tiles=(round_pb2.Tile(tile_id=t.tile_id, block_ids=[b.pack() for b in t.blocks]) for t in value.tiles),
        members=(
            round_pb2.Member(
                index=m.index,
                site=m.site,
                identity_key=m.identity_key,
                tiles=m.tiles,
                endorsement=m.endorsement,
                scored_tiles=m.scored_tiles,
            )
            for m in value.members
        ),
        rotate=value.rotate,
        weighting=None if value.weighting is None else _weighting_to_wire(value.weighting),
    )
    return wire.SerializeToString(deterministic=True)


def decode_assignment(payload: bytes) -> Assignment:
    """Parse an assignment and check that it holds together; raise ProtocolError (MALFORMED)."""
    wire = fields.parse(round_pb2.Assignment, payload, "assignment")
    check_version(wire.protocol_version)
    assignment = Assignment(
        run_id=fields.run_id(wire.run_id),
        job_id=JobId(fields.text(wire.job_id, "job id")),
        round_number=fields.ranged(wire.round, 1, (1 << 63) - 1, "round number"),
        plan_digest=fields.digest(wire.plan_digest, "plan digest"),
        state_digest=fields.digest(wire.state_digest, "digest of the model version"),
        model_digest=fields.digest(wire.model_digest, "digest of the base model"),
        suite=enums.SUITE.from_wire(wire.suite),
        ring_bits=fields.ranged(wire.ring_bits, RING_WIDTHS[0], RING_WIDTHS[-1], "width of the ring"),
        bundle_threshold=fields.ranged(wire.bundle_threshold, 1, MAX_GROUP, "bundle threshold"),
        blocks=tuple(map(_spec_from_wire, wire.blocks)),
        tiles=tuple(Tile(tile_id=t.tile_id, blocks=fields.blocks(t.block_ids)) for t in wire.tiles),
        members=tuple(map(_member_from_wire, wire.members)),
        rotate=wire.rotate,
        weighting=_weighting_from_wire(wire.weighting) if wire.HasField("weighting") else None,
    )
    _check_blocks(assignment.blocks)
    _check_tiles(assignment)
    _check_members(assignment)
    return assignment


def encode_roster(value: Roster) -> bytes:
    """Serialise a roster; equal rosters give equal bytes."""
    wire = round_pb2.Roster(
        protocol_version=PROTOCOL_VERSION,
        assignment_digest=value.assignment_digest,
        entries=(
            round_pb2.RosterEntry(index=e.index, mask_key=e.mask_key, channel_key=e.channel_key, signature=e.signature)
            for e in value.entries
        ),
        threshold=value.threshold,
        bundles=map(_bundle_to_wire, value.bundles),
    )
    return wire.SerializeToString(deterministic=True)


def decode_roster(payload: bytes) -> Roster:
    """Parse a roster and check that it holds together; raise ProtocolError (MALFORMED)."""
    wire = fields.parse(round_pb2.Roster, payload, "roster")
    check_version(wire.protocol_version)
    entries = tuple(map(entry_from_wire, wire.entries))
    finishers = fields.ascending([entry.index for entry in entries], "finishers")
    bundles = tuple(_bundle_from_wire(bundle, finishers) for bundle in wire.bundles)
    fields.ascending([bundle.bundle_id for bundle in bundles], "bundles")
    fields.unique(tuple(block for bundle in bundles for block in bundle.blocks), "blocks of all bundles")
    fields.unique(tuple(block for bundle in bundles for block in bundle.scored), "scored heads of all bundles")
    return Roster(
        assignment_digest=fields.digest(wire.assignment_digest, "assignment digest"),
        entries=entries,
        threshold=fields.ranged(wire.threshold, 1, max(1, len(entries)), "threshold"),
        bundles=bundles,
    )


def entry_from_wire(wire: round_pb2.RosterEntry) -> RosterEntry:
    """Read one member's round keys."""
    return RosterEntry(
        index=fields.ranged(wire.index, 0, MAX_MEMBERS - 1, "member index"),
        mask_key=fields.fixed(wire.mask_key, fields.KEY_BYTES, "mask key"),
        channel_key=fields.fixed(wire.channel_key, fields.KEY_BYTES, "channel key"),
        signature=fields.fixed(wire.signature, fields.SIGNATURE_BYTES, "signature of round keys"),
    )


def _weighting_to_wire(value: Weighting) -> round_pb2.Weighting:
    return round_pb2.Weighting(
        limit=value.limit,
        unit=value.unit,
        cell_minimum=value.cell_minimum,
        cell_threshold=value.cell_threshold,
    )


def _weighting_from_wire(wire: round_pb2.Weighting) -> Weighting:
    return Weighting(
        limit=fields.ranged(wire.limit, 1, (1 << 31) - 1, "largest weight"),
        unit=fields.ranged(wire.unit, 1, (1 << 31) - 1, "unit of weight"),
        cell_minimum=fields.ranged(wire.cell_minimum, 1, MAX_GROUP, "least size of a cell"),
        cell_threshold=fields.ranged(wire.cell_threshold, 1, MAX_GROUP, "threshold of a cell"),
    )


def _spec_from_wire(wire: round_pb2.BlockSpec) -> BlockSpec:
    return BlockSpec(
        block_id=fields.block(wire.block_id),
        length=fields.ranged(wire.length, 1, (1 << 31) - 1, "length of a block"),
        clip=fields.number(wire.clip, "clip of a block", positive=True),
    )


def _member_from_wire(wire: round_pb2.Member) -> Member:
    return Member(
        index=wire.index,
        site=fields.site(wire.site),
        identity_key=fields.fixed(wire.identity_key, fields.KEY_BYTES, "identity key"),
        tiles=fields.ascending(wire.tiles, "member's tiles"),
        scored_tiles=fields.ascending(wire.scored_tiles, "tiles that a member scores"),
        endorsement=fields.fixed(wire.endorsement, fields.SIGNATURE_BYTES, "endorsement") if wire.endorsement else b"",
    )


def _check_blocks(blocks: Sequence[BlockSpec]) -> None:
    order = [(spec.block_id.kind is BlockKind.HEAD, spec.block_id) for spec in blocks]
    if not order or any(a >= b for a, b in itertools.pairwise(order)):
        raise fields.malformed("The blocks are missing, listed twice, or not dense ones first and each by id.")


def _check_tiles(assignment: Assignment) -> None:
    if len(assignment.tiles) > MAX_TILES:
        raise fields.malformed(f"There are {len(assignment.tiles)} tiles; at most {MAX_TILES} are allowed.")
    fields.ascending([tile.tile_id for tile in assignment.tiles], "tiles")
    tiled: tuple[BlockId, ...] = tuple(block for tile in assignment.tiles for block in tile.blocks)
    heads = {spec.block_id for spec in assignment.blocks if spec.block_id.kind is BlockKind.HEAD}
    if not heads.issuperset(fields.unique(tiled, "blocks of all tiles")):
        raise fields.malformed("A tile names a block that is not a head of this round.")


def _check_members(assignment: Assignment) -> None:
    members = assignment.members
    if not 1 <= len(members) <= MAX_MEMBERS or [m.index for m in members] != list(range(len(members))):
        raise fields.malformed(f"The members are none, over {MAX_MEMBERS}, or not numbered from 0 without gaps.")
    fields.unique(tuple(member.site for member in members), "sites")
    fields.unique(tuple(member.identity_key for member in members), "identity keys")
    known = {tile.tile_id for tile in assignment.tiles}
    if any(not known.issuperset((*member.tiles, *member.scored_tiles)) for member in members):
        raise fields.malformed("A member trains or scores a tile that is not in the round.")


def _bundle_to_wire(value: Bundle) -> round_pb2.Bundle:
    return round_pb2.Bundle(
        bundle_id=value.bundle_id,
        block_ids=[block.pack() for block in value.blocks],
        scored_block_ids=[block.pack() for block in value.scored],
        members=value.members,
        threshold=value.threshold,
        is_void=value.void,
    )


def _bundle_from_wire(wire: round_pb2.Bundle, finishers: Sequence[int]) -> Bundle:
    members = fields.ascending(wire.members, "bundle's members")
    if not set(members) <= set(finishers):
        raise fields.malformed("A bundle names a member that is not in the roster.")
    return Bundle(
        bundle_id=fields.index(wire.bundle_id, "bundle id"),
        blocks=fields.blocks(wire.block_ids),
        scored=fields.blocks(wire.scored_block_ids),
        members=members,
        threshold=fields.ranged(wire.threshold, 1, MAX_GROUP, "bundle's threshold"),
        void=wire.is_void,
    )
