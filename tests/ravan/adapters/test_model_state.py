"""Model states: where they start, how they travel, what garbage is refused, how means are added."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from adapter_plans import plan_for, random_state, settings_for
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from ravan.adapters.basis import drawn_bases
from ravan.adapters.state import (
    apply_mean,
    block_shapes,
    decode_state,
    encode_state,
    initial_state,
    mean_state,
    state_digest,
)
from ravan.errors import ErrorReason, TransferError
from ravan.ids import BlockId, BlockKind
from ravan.keystream import expand
from ravan.manifest.plan import JobPlan

DENSE = [("classifier.weight", (3, 8)), ("classifier.bias", (3,)), ("norm.weight", (8,)), ("temperature", ())]


def small_plan(seed: bytes = bytes(32)) -> JobPlan:
    return plan_for([("query", 8, 8), ("value", 6, 8)], settings_for(2, 3, seed=seed), DENSE)


def test_blocks_are_dense_first_then_heads_by_id() -> None:
    shapes = block_shapes(small_plan())
    assert list(shapes) == sorted(shapes, key=lambda b: (b.kind is BlockKind.HEAD, b))
    assert list(shapes.values()) == [(3, 8), (3,), (8,), ()] + 4 * [(3, 3)]


def test_matrix_may_have_a_rank_of_its_own() -> None:
    plan = plan_for([("query", 8, 8), ("value", 6, 8)], settings_for(2, 3), ranks=(0, 2))
    wanted = {b: (3, 3) if b.matrix == 0 else (2, 2) for b in plan.head_ids()}
    assert block_shapes(plan) == wanted
    assert {block: array.shape for block, array in initial_state(plan).items()} == wanted
    state = random_state(plan, 0)
    again = decode_state(plan, encode_state(plan, state))
    assert all(np.array_equal(again[block], state[block]) for block in wanted)


def test_initial_state_is_neutral_but_for_dense_matrices() -> None:
    plan = small_plan()
    state = initial_state(plan)
    weight, bias, gain, scalar = plan.dense_ids()
    assert all((state[block] == 0).all() for block in [*plan.head_ids(), bias, scalar])
    assert (state[gain] == 1).all()
    assert all(array.dtype == np.float32 for array in state.values())
    stream = expand(bytes(32), b"ravan/dense/v1", struct.pack(">III", 0, 3, 8), 24 * 24)
    terms = struct.unpack("<288H", stream)
    draws = [(sum(terms[12 * i : 12 * i + 12]) - 393210) / 65536 * 0.02 for i in range(24)]
    np.testing.assert_array_equal(state[weight].ravel(), np.array(draws, np.float32))


def test_initial_dense_weight_has_the_stated_spread() -> None:
    plan = plan_for([], settings_for(0, 1), [("classifier.weight", (100, 128))])
    weight = initial_state(plan)[plan.dense_ids()[0]]
    # 12,800 draws: four standard errors of a standard deviation are 4 / sqrt(2 n) of it.
    assert weight.std() == pytest.approx(0.02, rel=4 / np.sqrt(2 * 12_800))
    other = initial_state(plan_for([], settings_for(0, 1, seed=bytes(32)), [("classifier.weight", (100, 128))]))
    assert not np.allclose(other[plan.dense_ids()[0]], weight, atol=1e-3)


def test_state_travels_unchanged() -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    again = decode_state(plan, encode_state(plan, state))
    assert list(again) == list(block_shapes(plan))
    assert all(np.array_equal(again[block], state[block]) and again[block].flags.writeable for block in state)


def test_encoding_is_plain_safetensors_with_names_from_the_ids() -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    tensors = load(encode_state(plan, state))
    assert set(tensors) == {f"dense.{i}" for i in range(4)} | {f"head.0.{m}.{i}" for m in (0, 1) for i in (0, 1)}
    np.testing.assert_array_equal(tensors["head.0.1.0"], state[BlockId(BlockKind.HEAD, 0, 1, 0)])


def test_digest_sees_content_and_not_order() -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    backwards = dict(reversed(state.items()))
    assert state_digest(plan, backwards) == state_digest(plan, state)
    changed = state | {plan.head_ids()[0]: np.nextafter(state[plan.head_ids()[0]], np.float32(1))}
    assert state_digest(plan, changed) != state_digest(plan, state)


def test_encoding_refuses_a_state_of_another_plan() -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    wrong_shape = state | {plan.dense_ids()[1]: np.zeros(4, np.float32)}
    for wrong in (wrong_shape, {b: a for b, a in state.items() if b.matrix == 0}):
        with pytest.raises(ValueError, match="not those of the plan"):
            encode_state(plan, wrong)


def assert_refused(data: bytes, match: str = "model state") -> None:
    with pytest.raises(TransferError, match=match) as refused:
        decode_state(small_plan(), data)
    assert refused.value.reason is ErrorReason.MALFORMED


@given(st.binary(max_size=900))
def test_garbage_is_refused(data: bytes) -> None:
    assert_refused(data)


@given(st.data())
def test_damaged_header_is_refused_or_harmless(data: st.DataObject) -> None:
    """Any byte of the header may change: the result is a refusal or the very same blocks and shapes."""
    plan = small_plan()
    blob = bytearray(encode_state(plan, random_state(plan, 0)))
    header = 8 + struct.unpack_from("<Q", blob)[0]
    blob[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    try:
        state = decode_state(plan, bytes(blob))
    except TransferError:
        return
    assert {block: array.shape for block, array in state.items()} == block_shapes(plan)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    state[plan.head_ids()[1]][2, 2] = value
    assert_refused(encode_state(plan, state), "not finite")


def tensors_of(plan: JobPlan) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return dict(load(encode_state(plan, random_state(plan, 0))))


def test_extra_missing_misshapen_and_mistyped_blocks_are_refused() -> None:
    plan = small_plan()
    assert_refused(save(tensors_of(plan) | {"head.0.0.2": np.zeros(1, np.float32)}), "blocks are not those")
    without = tensors_of(plan)
    without["head.0.0.9"] = without.pop("head.0.0.1")
    assert_refused(save(without), "blocks are not those")
    assert_refused(save(tensors_of(plan) | {"head.0.0.1": np.zeros((1, 9), np.float32)}), "another type or shape")
    assert_refused(save(tensors_of(plan) | {"head.0.0.1": np.zeros((3, 3), np.int32)}), "another type or shape")


def test_size_is_checked_before_parsing() -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    assert_refused(struct.pack("<Q", len(header)) + header, "bytes cannot hold")
    assert_refused(bytes(1 << 20), "bytes cannot hold")


def test_mean_is_added_once_in_float64() -> None:
    plan = small_plan()
    state = random_state(plan, 0)
    block, other = plan.head_ids()[:2]
    state[block][:] = 1.0
    # Rounded to float32 first, the mean would be 2^-24 and the sum a tie that falls back to 1.
    mean = np.full((3, 3), 2.0**-24 + 2.0**-50)
    after = apply_mean(state, {block: mean})
    np.testing.assert_array_equal(after[block], np.full((3, 3), 1.0 + 2.0**-23, np.float32))
    assert after[block].dtype == np.float32
    np.testing.assert_array_equal(after[other], state[other])
    assert after[other] is not state[other]
    assert (state[block] == 1.0).all()


def test_the_mean_of_versions_is_that_of_their_weights() -> None:
    """What each version adds to a weight, sum of B H A, is put together entry by entry."""
    plan, generator = small_plan(), np.random.default_rng(3)
    shapes = block_shapes(plan)
    states = [
        {block: generator.standard_normal(shape).astype(np.float32) for block, shape in shapes.items()}
        for _ in range(3)
    ]
    mean = mean_state(states)
    assert mean.keys() == shapes.keys()
    for block in plan.dense_ids():
        total = sum(state[block].astype(np.float64) for state in states)
        assert np.allclose(mean[block], total / 3, atol=1e-6)
    for matrix in plan.matrices:
        basis = drawn_bases(plan.adapter)(matrix)
        heads = [block for block in plan.head_ids() if block.matrix == matrix.ordinal]
        added = [
            sum(basis.b[h.index].astype(float) @ state[h] @ basis.a[h.index] for h in heads)
            for state in (*states, mean)
        ]
        assert np.allclose(added[-1], sum(added[:3]) / 3, atol=1e-5)
    assert all(np.array_equal(array, states[0][block]) for block, array in mean_state(states[:1]).items())


def test_mean_of_unknown_block_or_shape_is_refused() -> None:
    state = random_state(small_plan(), 0)
    with pytest.raises(ValueError, match="does not belong"):
        apply_mean(state, {BlockId(BlockKind.HEAD, 1, 0, 0): np.zeros((3, 3))})
    with pytest.raises(ValueError, match="does not belong"):
        apply_mean(state, {small_plan().head_ids()[0]: np.zeros(9)})
