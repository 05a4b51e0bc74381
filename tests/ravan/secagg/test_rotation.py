"""The rotation of cores: its own inverse, norms kept, and finer steps by the factor that is claimed."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from secagg_driver import DENSE, Federation, head, make_assignment
from test_quantised_updates import run_updates

from ravan.ids import BlockId
from ravan.manifest.assignment import Assignment, BlockSpec
from ravan.manifest.plan import Denominator
from ravan.manifest.roster import Roster
from ravan.quantisation import quantise_update
from ravan.secagg.bundles import bundles_of
from ravan.secagg.combine import decode_sums
from ravan.secagg.rotation import TAIL, coordinate_bound, rotate, rotate_back, rotated_side, sign_bits
from ravan.secagg.statistics import NOTHING

SIDES = (1, 2, 16, 32, 64)


def assignment_of(side: int, *, rotated: bool = True, ring_bits: int = 24) -> tuple[Assignment, BlockSpec]:
    assignment = make_assignment([(0,)] * 4, lengths=(side * side,), rotate=rotated, ring_bits=ring_bits)
    return assignment, assignment.blocks[1]


def slow_rotation(flat: NDArray[np.float64], signs: bytes, side: int) -> list[float]:
    """Entry (i, j) of H (D . M) H, with H[a][b] = (-1)^popcount(a & b) / sqrt(r), summed out."""
    bits = [signs[k // 8] >> (7 - k % 8) & 1 for k in range(side * side)]
    signed = [(-1) ** bit * value for bit, value in zip(bits, flat.tolist(), strict=True)]
    return [
        math.fsum(
            (-1) ** ((i & k).bit_count() + (m & j).bit_count()) * signed[k * side + m]
            for k in range(side)
            for m in range(side)
        )
        / side
        for i in range(side)
        for j in range(side)
    ]


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_rotation_is_the_one_that_is_written_down(side: int) -> None:
    assignment, spec = assignment_of(side)
    flat = np.random.default_rng(side).standard_normal(side * side)
    expected = slow_rotation(flat, sign_bits(assignment, spec), side)
    np.testing.assert_allclose(rotate(assignment, spec, flat), expected, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_rotation_keeps_norms_and_is_undone(side: int) -> None:
    assignment, spec = assignment_of(side)
    flat = np.random.default_rng(side).standard_normal(side * side)
    rotated = rotate(assignment, spec, flat)
    assert np.linalg.norm(rotated) == pytest.approx(np.linalg.norm(flat), rel=1e-12)
    np.testing.assert_allclose(rotate_back(assignment, spec, rotated), flat, atol=1e-12)


def test_only_square_cores_with_a_power_of_two_are_rotated_and_only_on_demand() -> None:
    assignment = make_assignment([(0, 1, 2, 3, 4)] * 3, lengths=(256, 255, 144, 1024, 17), dense=256, rotate=True)
    sides = {spec.block_id: rotated_side(assignment, spec) for spec in assignment.blocks}
    assert sides == {DENSE: 0, head(0): 16, head(1): 0, head(2): 0, head(3): 32, head(4): 0}
    plain, spec = assignment_of(16, rotated=False)
    assert rotated_side(plain, spec) == 0
    assert coordinate_bound(plain, spec) == spec.clip


@pytest.mark.parametrize(("side", "share"), [(16, 0.35), (32, 0.18), (64, 0.094)])
def test_steps_are_finer_by_the_published_factor(side: int, share: float) -> None:
    # reference figures of the coordinate range for r = 16, 32 and 64 at a tail of 1e-4
    assignment, spec = assignment_of(side)
    assert coordinate_bound(assignment, spec) / spec.clip == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("spread", ["one value", "a row", "normal"])
def test_coordinates_beyond_the_bound_are_as_rare_as_claimed(spread: str) -> None:
    assignment, spec = assignment_of(16)
    generator = np.random.default_rng(7)
    flat = np.zeros(256)
    match spread:
        case "one value":
            flat[0] = 1.0
        case "a row":
            flat[:16] = 1.0
        case _:
            flat = generator.standard_normal(256)
    flat *= spec.clip / np.linalg.norm(flat)
    beyond = 0
    for number in range(1, 301):
        turned = replace(assignment, round_number=number)
        beyond += bool(np.abs(rotate(turned, spec, flat)).max() > coordinate_bound(turned, spec))
    # 300 rounds at a chance of at most 1e-4 each: three or more would come once in a hundred thousand runs.
    assert TAIL == 1e-4
    assert beyond < 3


@pytest.mark.parametrize("ring_bits", [16, 24])
def test_mean_of_rotated_updates_is_within_a_step_in_norm(ring_bits: int) -> None:
    side = 16
    federation = Federation(assignment_of(side, ring_bits=ring_bits)[0])
    assignment, spec = federation.assignment, federation.assignment.blocks[1]
    updates = {i: _delta(i, side, spec.clip) for i in range(4)}
    result = run_updates(federation, {i: {head(0): u, DENSE: np.zeros(6)} for i, u in updates.items()})
    mean = decode_sums(assignment, [result], Denominator.TRAINERS).blocks[head(0)].mean
    expected = sum(updates.values()) / 4
    step = coordinate_bound(assignment, spec) / assignment.quantum_limit
    # each coordinate is off by at most a step before the orthonormal turn back
    assert np.linalg.norm(mean - expected) <= step * side
    plain = Federation(assignment_of(side, rotated=False, ring_bits=ring_bits)[0])
    unrotated = run_updates(plain, {i: {head(0): u, DENSE: np.zeros(6)} for i, u in updates.items()})
    coarse = decode_sums(plain.assignment, [unrotated], Denominator.TRAINERS).blocks[head(0)].mean
    assert np.linalg.norm(mean - expected) < 0.6 * np.linalg.norm(coarse - expected)


def test_a_value_beyond_the_bound_is_cut_and_told() -> None:
    assignment, spec = assignment_of(16)
    federation = Federation(assignment)
    roster = federation.advertise(range(4))
    assert isinstance(roster, Roster)
    # The update whose rotation has all its norm in one coordinate: far beyond the bound, within the clip.
    spike = np.zeros(256)
    spike[5] = spec.clip * 0.9
    deltas: dict[BlockId, NDArray[np.float64]] = {
        head(0): rotate_back(assignment, spec, spike),
        DENSE: np.zeros(6),
    }
    bundles = bundles_of(roster.bundles, 0)
    vectors = quantise_update(assignment, bundles, deltas, NOTHING, np.random.default_rng(0))
    values = vectors[1][1:257].astype(np.int64)
    values[values >= 1 << 23] -= 1 << 24
    assert values[5] == assignment.quantum_limit
    assert vectors[1][257] == 1


def _delta(index: int, side: int, clip: float) -> NDArray[np.float64]:
    delta = np.random.default_rng(index).standard_normal(side * side)
    return delta * (0.9 * clip / np.linalg.norm(delta))


@pytest.mark.parametrize("side", [16, 32, 64])
def test_the_bound_is_the_sub_gaussian_one(side: int) -> None:
    # P(any of m coordinates beyond b) <= 2 m exp(-b^2 m / 2 C^2), solved for b at 1e-4.
    assignment, spec = assignment_of(side)
    share = coordinate_bound(assignment, spec) / spec.clip
    assert 2 * side**2 * math.exp(-(share**2) * side**2 / 2) == pytest.approx(1e-4, rel=1e-9)


def test_signs_are_a_stream_named_by_run_round_and_block() -> None:
    """Derived again from the primitives: HKDF-SHA256 of the run id, then AES-256-CTR from 0, one bit a coordinate."""
    assignment, spec = assignment_of(3)
    place = struct.pack(">QQ", assignment.round_number, spec.block_id.pack())
    info = struct.pack(">Q", 17) + b"ravan/v1/rotation" + struct.pack(">Q", 16) + place
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(assignment.run_id)
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(2))
    assert sign_bits(assignment, spec) == stream
