"""A round's unmasked integer sums as a blob, with all that a separate program needs to recompute them.

Safetensors: the uint32 vector of each released bundle as `group.GROUP.bundle.ID`, modulo 2^ring_bits and laid
out as `ravan.secagg.bundles.lay_out` says, and the facts as JSON in the bytes of `facts`. Whoever holds the
survivors' own quantised vectors can add them up and compare bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StringConstraints
from safetensors import SafetensorError
from safetensors.numpy import load

from ravan.configuration import STRICT
from ravan.errors import ErrorReason, TransferError
from ravan.ids import BlockId, Digest, RunId, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec
from ravan.manifest.roster import Bundle
from ravan.secagg.bundles import lay_out
from ravan.secagg.rotation import coordinate_bound, rotated_side, sign_bits
from ravan.secagg.unmask import Unmasked, UnmaskJob

_FACTS: Final = "facts"
_VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBlock:
    """One block of a bundle, in the order of its vector."""

    block_id: BlockId
    length: int
    bound: float
    """Value that `quantum_limit` stands for."""
    signs: bytes
    """Sign bits of the block's rotation, see `ravan.secagg.rotation`; empty when it is not rotated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedBundle:
    """One bundle of a group's roster."""

    bundle_id: int
    members: tuple[int, ...]
    """Cohort among the finishers, member indices; the sum is over its survivors."""
    scored: tuple[BlockId, ...]
    """Heads of which the vector holds a score, in its order; before the blocks."""
    blocks: tuple[PublishedBlock, ...]
    total: NDArray[np.uint32] | None
    """Sum modulo 2^ring_bits; None when it was withheld."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedGroup:
    """The sums of members that masked together."""

    roster_digest: Digest
    survivors: tuple[int, ...]
    bundles: tuple[PublishedBundle, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedSums:
    """The sums of one round."""

    run_id: RunId
    round_number: int
    assignment_digest: Digest
    ring_bits: int
    quantum_limit: int
    weight_limit: int
    """W_max, of which each vector holds the site's weight at position 1; 0 in the uniform profile."""
    sites: Mapping[int, SiteId]
    """Member index to site, of all members."""
    groups: tuple[PublishedGroup, ...]


_Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
_Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_Block = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]


class _BlockFacts(BaseModel):
    """One block as it stands in the JSON."""

    model_config = STRICT

    id: _Block
    length: _Whole
    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    signs: Annotated[str, StringConstraints(pattern="^([0-9a-f]{2})*$")]


class _BundleFacts(BaseModel):
    """One bundle as it stands in the JSON."""

    model_config = STRICT

    id: _Whole
    members: tuple[_Whole, ...]
    scored: tuple[_Block, ...] = ()
    blocks: tuple[_BlockFacts, ...]


class _GroupFacts(BaseModel):
    """One group as it stands in the JSON."""

    model_config = STRICT

    roster_digest: _Hash
    survivors: tuple[_Whole, ...]
    bundles: tuple[_BundleFacts, ...]


class _Facts(BaseModel):
    """The JSON, as `_facts` writes it."""

    model_config = STRICT

    version: Literal[2]
    run_id: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
    round_number: _Whole
    assignment_digest: _Hash
    ring_bits: _Whole
    quantum_limit: _Whole
    weight_limit: _Whole
    sites: dict[_Whole, str]
    groups: tuple[_GroupFacts, ...]


class SumsWriter:
    """Writes a round's blob as its sums come, group after group; equal input gives equal bytes.

    By group and bundle id, then the facts. Sizes follow from the works, so the header comes first and no sum is kept.
    """

    def __init__(self, file: BinaryIO, works: Sequence[UnmaskJob]) -> None:
        """Write what comes before the sums, at the file's present position."""
        self._file = file
        self._hash = hashlib.sha256()
        self._works = iter(works)
        self._facts = json.dumps(_facts(works), sort_keys=True).encode()
        self._write(_header(works, len(self._facts)))

    def add(self, result: Unmasked) -> None:
        """Write the sums of the next work's group."""
        for bundle in _released(next(self._works)):
            self._write(np.ascontiguousarray(result.sums[bundle.bundle_id], "<u4").data)

    def finish(self) -> Digest:
        """Write what comes after the sums of all groups, and return the blob's digest."""
        self._write(self._facts)
        return Digest(self._hash.digest())

    def _write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)


def read_sums(data: bytes) -> PublishedSums:
    """Read what a `SumsWriter` wrote; raise TransferError MALFORMED for anything else."""
    try:
        tensors = load(data)
        facts = _Facts.model_validate_json(tensors.pop(_FACTS).tobytes(), strict=True)
        return _published(facts, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        raise TransferError(
            "The blob holds no sums of a round.",
            reason=ErrorReason.MALFORMED,
            next_step="Fetch it again by the digest that the round's record names.",
        ) from None


def _header(works: Sequence[UnmaskJob], facts_bytes: int) -> bytes:
    """Return safetensors' header: its length in eight bytes, then JSON with spaces up to a multiple of eight."""
    entries, end = {}, 0
    for group, work in enumerate(works):
        for bundle in _released(work):
            length = lay_out(work.assignment, bundle).length
            begin, end = end, end + 4 * length
            entries[_name(group, bundle.bundle_id)] = {"dtype": "U32", "shape": [length], "data_offsets": [begin, end]}
    entries[_FACTS] = {"dtype": "U8", "shape": [facts_bytes], "data_offsets": [end, end + facts_bytes]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _released(work: UnmaskJob) -> list[Bundle]:
    return [bundle for bundle in work.roster.bundles if bundle.bundle_id in work.survivor_set.bundles]


def _name(group: int, bundle_id: int) -> str:
    return f"group.{group}.bundle.{bundle_id}"


def _facts(works: Sequence[UnmaskJob]) -> dict[str, Any]:
    assignment = works[0].assignment
    return {
        "version": _VERSION,
        "run_id": assignment.run_id.hex(),
        "round_number": assignment.round_number,
        "assignment_digest": works[0].assignment_digest.hex(),
        "ring_bits": assignment.ring_bits,
        "quantum_limit": assignment.quantum_limit,
        "weight_limit": 0 if assignment.weighting is None else assignment.weighting.limit,
        "sites": {str(member.index): member.site for member in assignment.members},
        "groups": [
            {
                "roster_digest": work.roster_digest.hex(),
                "survivors": work.survivor_set.survivors,
                "bundles": [_bundle_facts(assignment, bundle) for bundle in work.roster.bundles],
            }
            for work in works
        ],
    }


def _bundle_facts(assignment: Assignment, bundle: Bundle) -> dict[str, Any]:
    specs = {spec.block_id: spec for spec in assignment.blocks}
    blocks = [_block_facts(assignment, specs[block]) for block in bundle.blocks]
    facts = {"id": bundle.bundle_id, "members": bundle.members, "blocks": blocks}
    # Left out where there are none, as in blobs from before there were any.
    return facts | ({"scored": [_block_name(head) for head in bundle.scored]} if bundle.scored else {})


def _block_facts(assignment: Assignment, spec: BlockSpec) -> dict[str, Any]:
    rotated = rotated_side(assignment, spec) > 0
    return {
        "id": _block_name(spec.block_id),
        "length": spec.length,
        "bound": coordinate_bound(assignment, spec),
        "signs": sign_bits(assignment, spec).hex() if rotated else "",
    }


def _block_name(block: BlockId) -> str:
    return f"{block.pack():016x}"


def _published(facts: _Facts, tensors: Mapping[str, NDArray[Any]]) -> PublishedSums:
    return PublishedSums(
        run_id=RunId(bytes.fromhex(facts.run_id)),
        round_number=facts.round_number,
        assignment_digest=Digest(bytes.fromhex(facts.assignment_digest)),
        ring_bits=facts.ring_bits,
        quantum_limit=facts.quantum_limit,
        weight_limit=facts.weight_limit,
        sites={index: SiteId(site) for index, site in facts.sites.items()},
        groups=tuple(
            PublishedGroup(
                roster_digest=Digest(bytes.fromhex(group.roster_digest)),
                survivors=group.survivors,
                bundles=tuple(_published_bundle(number, bundle, tensors) for bundle in group.bundles),
            )
            for number, group in enumerate(facts.groups)
        ),
    )


def _published_bundle(group: int, facts: _BundleFacts, tensors: Mapping[str, NDArray[Any]]) -> PublishedBundle:
    total = tensors.get(_name(group, facts.id))
    if total is not None and (total.dtype != np.uint32 or total.ndim != 1):
        raise ValueError("a sum is no vector of ring elements")
    return PublishedBundle(
        bundle_id=facts.id,
        members=facts.members,
        scored=tuple(BlockId.unpack(int(head, 16)) for head in facts.scored),
        blocks=tuple(
            PublishedBlock(
                block_id=BlockId.unpack(int(block.id, 16)),
                length=block.length,
                bound=block.bound,
                signs=bytes.fromhex(block.signs),
            )
            for block in facts.blocks
        ),
        total=total,
    )
