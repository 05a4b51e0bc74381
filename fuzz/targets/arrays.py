"""Blobs of numbers: model versions, bases, what leads them, and published sums."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from coordinator.aggregation.sums import PublishedBundle, read_sums
from fuzz.target import Format, Target, require
from fuzz.values import DENSE, HEADS, PLAN, RUN, digest
from ravan.adapters.basis import Directions, decode_basis, draw_basis, encode_basis
from ravan.adapters.directions import directions_in, encode_directions
from ravan.adapters.state import decode_state, encode_state, initial_state
from ravan.errors import ErrorReason, TransferError
from ravan.ids import BlockId

_WORDS: Final = (
    *(
        "version",
        "run_id",
        "round_number",
        "ring_bits",
        "sites",
        "groups",
        "survivors",
        "members",
        "scored",
        "blocks",
        "bound",
        "signs",
        "group.0.bundle.0",
    ),
    *("F32", "U32", "BF16", "F8_E4M3", "\\ud800", "NaN", "null", "true", "[]", "{}", "-1", "1.5", '"x"'),
)
_MATRIX: Final = PLAN.matrices[0]


def _read_state(data: bytes) -> None:
    state = decode_state(PLAN, data)
    again = decode_state(PLAN, encode_state(PLAN, state))
    require(all(np.array_equal(again[block], state[block]) for block in state), "a version does not survive")


def _read_basis(data: bytes) -> None:
    basis = decode_basis(data, PLAN.adapter, _MATRIX.out_features, _MATRIX.in_features)
    require(encode_basis(basis) == data, "a basis has two spellings")


def _read_directions(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        found = directions_in(Path(file.name))(_MATRIX)
    require(found.left.shape[1] == found.right.shape[0] > 0, "the two sides differ in number")
    require(bool(np.isfinite(found.left).all() and np.isfinite(found.right).all()), "a direction is not finite")


def _read_sums(data: bytes) -> None:
    sums = read_sums(data)
    require((len(sums.run_id), len(sums.assignment_digest)) == (16, 32), "an id is none")
    survivors = [index for group in sums.groups for index in group.survivors]
    numbers = (sums.round_number, sums.ring_bits, sums.quantum_limit, sums.weight_limit, *survivors, *sums.sites)
    require(all(type(number) is int for number in numbers), "a number is none")
    require(all(type(site) is str for site in sums.sites.values()), "a site's name is no text")
    for group in sums.groups:
        require(len(group.roster_digest) == 32, "a roster's digest is none")
        for bundle in group.bundles:
            _check_bundle(bundle)


def _check_bundle(bundle: PublishedBundle) -> None:
    numbers = (bundle.bundle_id, *bundle.members, *(block.length for block in bundle.blocks))
    require(all(type(number) is int for number in numbers), "a number of a bundle is none")
    require(all(block.bound > 0 for block in bundle.blocks), "a bound is no positive number")
    require(bundle.total is None or (bundle.total.dtype == np.uint32 and bundle.total.ndim == 1), "a sum is none")


def _states() -> Iterable[bytes]:
    yield encode_state(PLAN, initial_state(PLAN))


def _bases() -> Iterable[bytes]:
    yield encode_basis(draw_basis(PLAN.adapter, 0, _MATRIX.out_features, _MATRIX.in_features))


def _directions() -> Iterable[bytes]:
    left, right = np.eye(_MATRIX.out_features, 2), np.eye(2, _MATRIX.in_features)
    yield encode_directions({0: Directions(left=left.astype(np.float32), right=right.astype(np.float32))})


def _sums() -> Iterable[bytes]:
    facts: Mapping[str, Any] = {
        "version": 2,
        "run_id": RUN.hex(),
        "round_number": 3,
        "assignment_digest": digest("assignment").hex(),
        "ring_bits": 24,
        "quantum_limit": 1000,
        "weight_limit": 0,
        "sites": {"0": "plant-0", "1": "plant-1"},
        "groups": [
            {
                "roster_digest": digest("roster").hex(),
                "survivors": [0, 1],
                "bundles": [
                    {"id": 0, "members": [0, 1], "scored": [_name(HEADS[1])], "blocks": [_block(DENSE, 3, "")]},
                    {"id": 1, "members": [1], "blocks": [_block(HEADS[0], 4, "a0")]},
                ],
            }
        ],
    }
    words = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    yield save({"facts": words, "group.0.bundle.0": np.arange(5, dtype="<u4")})


def _name(block: BlockId) -> str:
    return f"{block.pack():016x}"


def _block(block: BlockId, length: int, signs: str) -> Mapping[str, Any]:
    return {"id": _name(block), "length": length, "bound": 8.0, "signs": signs}


MODEL_STATE: Final = Target(
    name="model-state",
    formats=(
        Format(name="version", read=_read_state, seeds=_states, words=_WORDS),
        Format(name="basis", read=_read_basis, seeds=_bases),
        Format(name="sums", read=_read_sums, seeds=_sums, words=_WORDS),
        Format(name="directions", read=_read_directions, seeds=_directions, words=(*_WORDS, "left.0", "right.0")),
    ),
    refusals={TransferError: frozenset({ErrorReason.MALFORMED})},
)
