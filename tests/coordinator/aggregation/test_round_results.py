"""From staged payloads to the next version, against plain sums and means over the members' own vectors."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of
from safetensors.numpy import load, save
from secagg_driver import Federation, head, make_assignment, random_blocks

from coordinator.aggregation.committing import advance_state
from coordinator.aggregation.sums import read_sums
from coordinator.aggregation.unmasking import SummedPayloads, sum_payloads
from ravan.adapters.state import FloatArray, block_shapes, decode_state, encode_state
from ravan.errors import ErrorReason, ModelError, ProtocolError, TransferError
from ravan.ids import BlockId
from ravan.manifest.plan import Denominator, JobPlan
from ravan.secagg.unmask import UnmaskJob

# Tile 0 is trained by all five, tile 1 by four, tile 2 by three; member 3 is lost after sharing.
TILES = ((0, 1, 2), (0, 1, 2), (0, 1), (0, 1, 2), (0,))
SURVIVORS = (0, 1, 2, 4)
TRAINERS = {0: (0, 1, 2, 4), 1: (0, 1, 2)}
"""Survivors per released tile; tile 2 is left with two survivors, below the threshold of three."""


@pytest.fixture
def plan() -> JobPlan:
    return plan_of(3, heads=1, rank=3, dense=(("classifier.weight", (3, 2)),))


@pytest.fixture
def federation() -> Federation:
    return Federation(make_assignment(TILES, lengths=(9, 9, 9), dense=6))


@pytest.fixture
def work(federation: Federation) -> UnmaskJob:
    everyone = tuple(range(5))
    return federation.run_to_job(everyone, everyone, SURVIVORS, SURVIVORS)


@pytest.fixture
def payloads(federation: Federation, work: UnmaskJob, tmp_path: Path) -> dict[int, Path]:
    paths = {index: tmp_path / f"{index}.masked" for index in work.survivor_set.survivors}
    for index, path in paths.items():
        path.write_bytes(federation.payloads[index])
    return paths


@pytest.fixture
def published() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def summed(work: UnmaskJob, payloads: dict[int, Path], published: io.BytesIO) -> SummedPayloads:
    return sum_payloads([work], payloads, Denominator.TRAINERS, published)


def random_state(plan: JobPlan) -> dict[BlockId, FloatArray]:
    generator = np.random.default_rng(3)
    return {block: generator.normal(0, 1, shape).astype(np.float32) for block, shape in block_shapes(plan).items()}


def plain_mean(federation: Federation, block: BlockId, trainers: tuple[int, ...], divisor: int) -> list[float]:
    """Sum of the members' quantised values in plain integers, then one division."""
    assignment = federation.assignment
    spec = next(spec for spec in assignment.blocks if spec.block_id == block)
    rows = [random_blocks(assignment, index)[block].values.tolist() for index in trainers]
    return [sum(column) * spec.clip / (assignment.quantum_limit * divisor) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("denominator", list(Denominator))
def test_the_next_version_is_the_last_plus_the_plain_means(
    plan: JobPlan, federation: Federation, work: UnmaskJob, payloads: dict[int, Path], denominator: Denominator
) -> None:
    before = random_state(plan)
    total = sum_payloads([work], payloads, denominator, io.BytesIO()).total
    after = decode_state(plan, advance_state(plan, encode_state(plan, before), total))
    cohorts = {plan.dense_ids()[0]: SURVIVORS} | {head(tile): trainers for tile, trainers in TRAINERS.items()}
    for block, trainers in cohorts.items():
        divisor = len(trainers) if denominator is Denominator.TRAINERS else len(SURVIVORS)
        mean = np.reshape(plain_mean(federation, block, trainers, divisor), before[block].shape)
        np.testing.assert_array_equal(after[block], (before[block].astype(np.float64) + mean).astype(np.float32))
        assert np.abs(after[block] - before[block]).max() > 0.01
    np.testing.assert_array_equal(after[head(2)], before[head(2)])


def test_published_sums_can_be_recomputed_from_the_members_own_vectors(
    federation: Federation, summed: SummedPayloads, published: io.BytesIO
) -> None:
    assert summed.sums_digest == hashlib.sha256(published.getvalue()).digest()
    (group,) = read_sums(published.getvalue()).groups
    assert group.survivors == SURVIVORS
    released = {bundle.bundle_id for bundle in group.bundles if bundle.total is not None}
    assert len(group.bundles) - len(released) == 1
    for bundle in group.bundles:
        alive = [index for index in bundle.members if index in SURVIVORS]
        assert (bundle.total is None) == (len(alive) < 3)
        if bundle.total is not None:
            rows = [federation.vectors[index][bundle.bundle_id].tolist() for index in alive]
            assert bundle.total.tolist() == [sum(column) % (1 << 24) for column in zip(*rows, strict=True)]


def test_published_facts_are_those_of_the_round(
    federation: Federation, work: UnmaskJob, payloads: dict[int, Path]
) -> None:
    file = io.BytesIO()
    sum_payloads([work], payloads, Denominator.TRAINERS, file)
    sums = read_sums(file.getvalue())
    assignment = federation.assignment
    assert (sums.run_id, sums.round_number) == (assignment.run_id, assignment.round_number)
    (group,) = sums.groups
    assert (sums.assignment_digest, group.roster_digest) == (work.assignment_digest, work.roster_digest)
    assert sums.sites == {i: f"site-{i}" for i in range(5)}
    assert (sums.ring_bits, sums.quantum_limit) == (24, ((1 << 23) - 1) // 5)
    blocks = [block for bundle in group.bundles for block in bundle.blocks]
    assert {(b.block_id, b.length, b.bound) for b in blocks} == {
        (spec.block_id, spec.length, spec.clip) for spec in assignment.blocks
    }


def test_the_same_round_gives_the_same_blob(
    work: UnmaskJob, payloads: dict[int, Path], summed: SummedPayloads, published: io.BytesIO
) -> None:
    again = io.BytesIO()
    assert sum_payloads([work], payloads, Denominator.COHORT, again).sums_digest == summed.sums_digest
    assert again.getvalue() == published.getvalue()


@pytest.mark.usefixtures("summed")
def test_the_blob_is_what_safetensors_itself_writes(published: io.BytesIO) -> None:
    assert save(load(published.getvalue())) == published.getvalue()


def test_progress_counts_payloads(work: UnmaskJob, payloads: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    sum_payloads([work], payloads, Denominator.TRAINERS, io.BytesIO(), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_payload_that_was_changed_on_disk_never_becomes_a_version(work: UnmaskJob, payloads: dict[int, Path]) -> None:
    data = bytearray(payloads[0].read_bytes())
    data[0] ^= 1  # the leading check value of bundle 0
    payloads[0].write_bytes(data)
    with pytest.raises(ProtocolError) as caught:
        sum_payloads([work], payloads, Denominator.TRAINERS, io.BytesIO())
    assert caught.value.reason is ErrorReason.CANARY_MISMATCH


def test_a_version_that_is_not_finite_is_refused(plan: JobPlan, summed: SummedPayloads) -> None:
    block = head(0)
    huge = dataclasses.replace(summed.total.blocks[block], mean=np.full(9, 1e300))
    total = dataclasses.replace(summed.total, blocks={**summed.total.blocks, block: huge})
    with pytest.raises(ModelError, match="1 of its blocks are not finite, head e0/m0/0 first") as caught:
        advance_state(plan, encode_state(plan, random_state(plan)), total)
    assert caught.value.reason is ErrorReason.MODEL_INVALID
    assert "learning rates" in caught.value.next_step


@given(st.binary(max_size=200))
def test_any_bytes_are_sums_or_refused(data: bytes) -> None:
    with pytest.raises(TransferError) as caught:
        read_sums(data)
    assert caught.value.reason is ErrorReason.MALFORMED
