"""From float deltas to the mean: the whole path against the float mean of the clipped deltas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from secagg_driver import DENSE, Federation, head, make_assignment, only, scores_of, sole, statistics_of

from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import BlockId, Digest
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.quantisation import quantise_update
from ravan.secagg.bundles import bundles_of
from ravan.secagg.combine import decode_sums
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.effects import Mask, Upload
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import RevealRequest, SurvivorSet
from ravan.secagg.unmask import Unmasked

MEMBERS = range(4)
BLOCKS = (DENSE, head(0), head(1), head(2))


def deltas(
    assignment_lengths: dict[BlockId, int], index: int
) -> dict[BlockId, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    generator = np.random.default_rng(100 + index)
    # Member 3's updates are above their clip bounds, the others' far below.
    scale = 10.0 if index == 3 else 0.01
    return {b: (scale * generator.standard_normal(n)).astype(np.float32) for b, n in assignment_lengths.items()}


def run_updates(
    federation: Federation,
    updates: Mapping[int, Mapping[BlockId, NDArray[Any]]],
    held_examples: Mapping[int, int] | None = None,
) -> Unmasked:
    """Lead a round in which everybody quantises, masks and stays to the end."""
    roster = federation.advertise(tuple(updates))
    assert isinstance(roster, Roster)
    deliveries = federation.share(tuple(updates))
    assert isinstance(deliveries, dict)
    for i, deltas_of_site in updates.items():
        bundles, generator = bundles_of(roster.bundles, i), np.random.default_rng(i)
        held = (held_examples or {}).get(i, 0)
        vectors = quantise_update(
            federation.assignment,
            bundles,
            deltas_of_site,
            statistics_of(i),
            generator,
            held_examples=held,
            scores=scores_of(federation.assignment, i),
        )
        payload = bytes(mask_vectors(only(federation.agents[i].deliver(deliveries[i]), Mask).job, vectors))
        federation.payloads[i] = payload
        header = only(
            federation.agents[i].masked(Digest(hashlib.sha256(payload).digest()), len(payload)), Upload
        ).header
        federation.coordinator.uploaded(i, header)
    survivor_set = sole(federation.coordinator.close_upload())
    assert isinstance(survivor_set, SurvivorSet)
    federation.survivor_set = survivor_set
    request = federation.confirm(tuple(updates))
    assert isinstance(request, RevealRequest)
    job = federation.reveal(request, tuple(updates))
    assert not isinstance(job, Abort)
    return federation.unmask(job)


def test_mean_is_within_one_step_of_the_float_mean_of_clipped_deltas() -> None:
    federation = Federation(make_assignment([(0, 1, 2)] * 4))
    assignment = federation.assignment
    lengths = {spec.block_id: spec.length for spec in assignment.blocks}
    clips = {spec.block_id: spec.clip for spec in assignment.blocks}
    unmasked = run_updates(federation, {i: deltas(lengths, i) for i in MEMBERS})
    result = decode_sums(assignment, [unmasked], Denominator.TRAINERS)

    for block, length in lengths.items():
        rows = [deltas(lengths, i)[block].astype(np.float64) for i in MEMBERS]
        clipped = [row * min(1.0, clips[block] / float(np.linalg.norm(row))) for row in rows]
        step = clips[block] / assignment.quantum_limit
        assert result.blocks[block].mean.shape == (length,)
        assert np.abs(result.blocks[block].mean - sum(clipped) / 4).max() <= step * (1 + 2.0**-20)
        assert result.blocks[block].clipped == 1


def test_a_missing_or_misshaped_block_is_refused() -> None:
    assignment = make_assignment([(0, 1, 2)] * 4)
    roster = Federation(assignment).advertise(MEMBERS)
    assert isinstance(roster, Roster)
    good = deltas({spec.block_id: spec.length for spec in assignment.blocks}, 0)
    for wrong in ({b: d for b, d in good.items() if b != head(1)}, {**good, head(1): good[head(1)][:-1]}):
        with pytest.raises(ProtocolError, match="m1/0") as caught:
            quantise_update(
                assignment, bundles_of(roster.bundles, 0), wrong, statistics_of(0), np.random.default_rng(0)
            )
        assert caught.value.reason is ErrorReason.MALFORMED
