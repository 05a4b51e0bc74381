"""From float deltas to the mean: the whole path against the float mean of the clipped deltas."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from secagg_driver import DENSE, Federation, head, make_assignment, only, sole, statistics_of

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

MEMBERS = range(4)
BLOCKS = (DENSE, head(0), head(1), head(2))


def deltas(
    assignment_lengths: dict[BlockId, int], index: int
) -> dict[BlockId, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    generator = np.random.default_rng(100 + index)
    # Member 3's updates are above their clip bounds, the others' far below.
    scale = 10.0 if index == 3 else 0.01
    return {b: (scale * generator.standard_normal(n)).astype(np.float32) for b, n in assignment_lengths.items()}


def test_mean_is_within_one_step_of_the_float_mean_of_clipped_deltas() -> None:
    federation = Federation(make_assignment([(0, 1, 2)] * 4))
    assignment = federation.assignment
    lengths = {spec.block_id: spec.length for spec in assignment.blocks}
    clips = {spec.block_id: spec.clip for spec in assignment.blocks}
    roster = federation.advertise(MEMBERS)
    assert isinstance(roster, Roster)
    deliveries = federation.share(MEMBERS)
    assert isinstance(deliveries, dict)
    for i, agent in federation.agents.items():
        bundles = bundles_of(roster.bundles, i)
        vectors = quantise_update(assignment, bundles, deltas(lengths, i), statistics_of(i), np.random.default_rng(i))
        payload = bytes(mask_vectors(only(agent.deliver(deliveries[i]), Mask).job, vectors))
        federation.payloads[i] = payload
        header = only(agent.masked(Digest(hashlib.sha256(payload).digest()), len(payload)), Upload).header
        federation.coordinator.uploaded(i, header)
    survivor_set = sole(federation.coordinator.close_upload())
    assert isinstance(survivor_set, SurvivorSet)
    federation.survivor_set = survivor_set
    request = federation.confirm(MEMBERS)
    assert isinstance(request, RevealRequest)
    job = federation.reveal(request, MEMBERS)
    assert not isinstance(job, Abort)
    result = decode_sums(assignment, [federation.unmask(job)], Denominator.TRAINERS)

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
