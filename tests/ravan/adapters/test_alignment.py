"""Bases that follow a gradient: what sketches find, and what leads the bases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ravan.adapters.alignment import (
    DIRECTIONS,
    add_sketches,
    draw_probe,
    find_directions,
    leading_directions,
    probe_for,
    take_sketch,
)
from ravan.adapters.basis import Basis, Directions, draw_basis, drawn_bases
from ravan.ids import Digest
from ravan.manifest.plan import AdapterSettings, BasisKind, Matrix


def low_rank(out: int, inputs: int, rank: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((out, rank)) @ generator.standard_normal((rank, inputs))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(12, 20), st.integers(12, 20), st.integers(0, 2**20))
def test_a_gradient_of_a_rank_below_the_width_is_found_whole(rank: int, out: int, inputs: int, seed: int) -> None:
    gradients = [low_rank(out, inputs, rank, seed + part) for part in range(2)]
    total = np.sum(gradients, axis=0)
    width = 2 * rank + 2
    probe = draw_probe(out, inputs, width, np.random.default_rng(seed).standard_normal)
    sketch = add_sketches([take_sketch(gradient, probe) for gradient in gradients])
    left, right = leading_directions(sketch, probe, 2 * rank)
    assert np.allclose(left.T @ left, np.eye(2 * rank), atol=1e-8)
    assert np.allclose(right @ right.T, np.eye(2 * rank), atol=1e-8)
    assert np.allclose(left @ left.T @ total @ right.T @ right, total, atol=1e-6 * np.abs(total).max())


def test_the_strongest_directions_come_first_and_hold_nearly_all_that_any_could() -> None:
    generator = np.random.default_rng(5)
    u, _ = np.linalg.qr(generator.standard_normal((40, 40)))
    v, _ = np.linalg.qr(generator.standard_normal((30, 30)))
    values = 10.0 * 0.5 ** np.arange(30)
    gradient = u[:, :30] * values @ v.T
    probe = draw_probe(40, 30, 12, generator.standard_normal)
    left, right = leading_directions(take_sketch(gradient, probe), probe, 4)
    held = np.square(left.T @ gradient @ right.T).sum()
    best = np.square(values[:4]).sum()
    assert held > 0.999 * best
    assert np.abs(u[:, 0] @ left[:, 0]) > 0.999
    assert np.abs(v[:, 0] @ right[0]) > 0.999


SETTINGS = AdapterSettings(heads=3, rank=16, basis=BasisKind.ALIGNED, seed=bytes(range(32)))


def matrix_of(out: int, inputs: int, rank: int = 0) -> Matrix:
    return Matrix(ordinal=3, name="m", out_features=out, in_features=inputs, basis_digest=Digest(b""), rank=rank)


def side_by_side(basis: Basis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.concatenate(list(basis.b), axis=1).astype(np.float64), np.concatenate(list(basis.a)).astype(np.float64)


@pytest.mark.parametrize("rank", [0, 4, 18])
def test_the_bases_of_an_aligned_job_hold_the_gradients_strongest_directions_and_are_orthonormal(rank: int) -> None:
    """With ranks that make fewer directions than are looked for, and more."""
    matrix = matrix_of(72, 60, rank)
    generator = np.random.default_rng(7)
    u, _ = np.linalg.qr(generator.standard_normal((72, 72)))
    v, _ = np.linalg.qr(generator.standard_normal((60, 60)))
    values = 0.7 ** np.arange(60)
    gradient = u[:, :60] * values @ v.T
    parts = generator.standard_normal((2, 72, 60))
    probe = probe_for(SETTINGS, matrix)
    sketch = add_sketches([take_sketch(part, probe) for part in (*parts, gradient - parts.sum(axis=0))])
    basis = drawn_bases(SETTINGS, lambda each: find_directions(SETTINGS, each, sketch, probe_for(SETTINGS, each)))(
        matrix
    )
    room = 3 * (rank or 16)
    columns, rows = side_by_side(basis)
    assert columns.shape == (72, room)
    assert rows.shape == (room, 60)
    assert np.allclose(columns.T @ columns, np.eye(room), atol=1e-5)
    assert np.allclose(rows @ rows.T, np.eye(room), atol=1e-5)
    looked_for = min(room, DIRECTIONS)
    held = np.square(columns[:, :looked_for].T @ gradient @ rows[:looked_for].T).sum()
    assert held > 0.999 * np.square(values[:looked_for]).sum()
    drawn = side_by_side(
        draw_basis(dataclasses.replace(SETTINGS, basis=BasisKind.GRAM_SCHMIDT, rank=rank or 16), 3, 72, 60)
    )
    assert np.square(drawn[0].T @ gradient @ drawn[1].T).sum() < 0.9 * held


def test_a_matrix_without_a_gradient_gets_bases_all_the_same() -> None:
    matrix = matrix_of(64, 64)
    sketch = take_sketch(np.zeros((64, 64)), probe_for(SETTINGS, matrix))
    columns, rows = side_by_side(
        drawn_bases(SETTINGS, lambda each: find_directions(SETTINGS, each, sketch, probe_for(SETTINGS, each)))(matrix)
    )
    assert np.allclose(columns.T @ columns, np.eye(48), atol=1e-5)
    assert np.allclose(rows @ rows.T, np.eye(48), atol=1e-5)


def test_probes_follow_from_seed_epoch_matrix_and_shape() -> None:
    first = probe_for(SETTINGS, matrix_of(40, 30))
    assert np.array_equal(first.omega, probe_for(SETTINGS, matrix_of(40, 30)).omega)
    assert not np.array_equal(
        first.omega, probe_for(dataclasses.replace(SETTINGS, seed=bytes(32)), matrix_of(40, 30)).omega
    )
    assert not np.array_equal(first.omega, probe_for(dataclasses.replace(SETTINGS, epoch=1), matrix_of(40, 30)).omega)
    other = dataclasses.replace(matrix_of(40, 30), ordinal=4)
    assert not np.array_equal(first.omega, probe_for(SETTINGS, other).omega)


def test_directions_are_neither_forgotten_nor_given_in_vain() -> None:
    with pytest.raises(ValueError, match="aligned bases need directions"):
        drawn_bases(SETTINGS)(matrix_of(64, 64))
    drawn = dataclasses.replace(SETTINGS, basis=BasisKind.GRAM_SCHMIDT)
    lead = Directions(left=np.eye(64, 2, dtype=np.float32), right=np.eye(2, 64, dtype=np.float32))
    with pytest.raises(ValueError, match="gram_schmidt bases have no directions"):
        drawn_bases(drawn, lambda _: lead)(matrix_of(64, 64))
