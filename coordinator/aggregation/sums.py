"""A round's unmasked integer sums as a blob, with all that a separate program needs to recompute them.

Safetensors: the uint32 vector of each released bundle as `bundle.ID`, modulo 2^24 and laid out as
`ravan.secagg.bundles.lay_out` says, and the facts as JSON in the bytes of `facts`. Whoever holds the
survivors' own quantised vectors can add them up and compare bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StringConstraints
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ravan.configuration import STRICT
from ravan.errors import ErrorReason, TransferError
from ravan.ids import BlockId, Digest, RunId, SiteId
from ravan.secagg.unmask import UnmaskJob

_FACTS: Final = "facts"
_PREFIX: Final = "bundle."
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBlock:
    """One block of a bundle, in the order of its vector."""

    block_id: BlockId
    length: int
    clip: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedBundle:
    """One bundle of the round's roster."""

    bundle_id: int
    members: tuple[int, ...]
    """Cohort among the finishers, member indices; the sum is over its survivors."""
    blocks: tuple[PublishedBlock, ...]
    total: NDArray[np.uint32] | None
    """Sum modulo 2^ring_bits; None when it was withheld."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedSums:
    """The sums of one round."""

    run_id: RunId
    round_number: int
    assignment_digest: Digest
    roster_digest: Digest
    ring_bits: int
    quantum_limit: int
    sites: Mapping[int, SiteId]
    """Member index to site, of all members."""
    survivors: tuple[int, ...]
    bundles: tuple[PublishedBundle, ...]


_Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
_Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_PackedBlock = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]


class _BundleFacts(BaseModel):
    """One bundle as it stands in the JSON."""

    model_config = STRICT

    id: _Whole
    members: tuple[_Whole, ...]
    blocks: tuple[tuple[_PackedBlock, _Whole, float], ...]


class _Facts(BaseModel):
    """The JSON, as `_facts` writes it."""

    model_config = STRICT

    version: Literal[1]
    run_id: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
    round_number: _Whole
    assignment_digest: _Hash
    roster_digest: _Hash
    ring_bits: _Whole
    quantum_limit: _Whole
    sites: dict[_Whole, str]
    survivors: tuple[_Whole, ...]
    bundles: tuple[_BundleFacts, ...]


def publish_sums(work: UnmaskJob, sums: Mapping[int, NDArray[np.uint32]]) -> bytes:
    """Serialise the unmasked sums, by bundle id; equal input gives equal bytes."""
    facts = json.dumps(_facts(work), sort_keys=True).encode()
    tensors: dict[str, NDArray[Any]] = {_FACTS: np.frombuffer(facts, np.uint8)}
    tensors |= {f"{_PREFIX}{bundle_id}": np.ascontiguousarray(total, "<u4") for bundle_id, total in sums.items()}
    return save(tensors)


def read_sums(data: bytes) -> PublishedSums:
    """Read `publish_sums`'s bytes; raise TransferError MALFORMED for anything else."""
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


def _facts(work: UnmaskJob) -> dict[str, Any]:
    assignment = work.assignment
    specs = {spec.block_id: spec for spec in assignment.blocks}
    bundles = [
        {
            "id": bundle.bundle_id,
            "members": bundle.members,
            "blocks": [[f"{block.pack():016x}", specs[block].length, specs[block].clip] for block in bundle.blocks],
        }
        for bundle in work.roster.bundles
    ]
    return {
        "version": _VERSION,
        "run_id": assignment.run_id.hex(),
        "round_number": assignment.round_number,
        "assignment_digest": work.assignment_digest.hex(),
        "roster_digest": work.roster_digest.hex(),
        "ring_bits": assignment.ring_bits,
        "quantum_limit": assignment.quantum_limit,
        "sites": {str(member.index): member.site for member in assignment.members},
        "survivors": work.survivor_set.survivors,
        "bundles": bundles,
    }


def _published(facts: _Facts, tensors: Mapping[str, NDArray[Any]]) -> PublishedSums:
    return PublishedSums(
        run_id=RunId(bytes.fromhex(facts.run_id)),
        round_number=facts.round_number,
        assignment_digest=Digest(bytes.fromhex(facts.assignment_digest)),
        roster_digest=Digest(bytes.fromhex(facts.roster_digest)),
        ring_bits=facts.ring_bits,
        quantum_limit=facts.quantum_limit,
        sites={index: SiteId(site) for index, site in facts.sites.items()},
        survivors=facts.survivors,
        bundles=tuple(_published_bundle(bundle, tensors) for bundle in facts.bundles),
    )


def _published_bundle(facts: _BundleFacts, tensors: Mapping[str, NDArray[Any]]) -> PublishedBundle:
    total = tensors.get(f"{_PREFIX}{facts.id}")
    if total is not None and (total.dtype != np.uint32 or total.ndim != 1):
        raise ValueError("a sum is no vector of ring elements")
    return PublishedBundle(
        bundle_id=facts.id,
        members=facts.members,
        blocks=tuple(
            PublishedBlock(block_id=BlockId.unpack(int(packed, 16)), length=length, clip=clip)
            for packed, length, clip in facts.blocks
        ),
        total=total,
    )
