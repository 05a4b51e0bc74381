"""What the server makes of mean deltas, against the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from lab.methods.ravan.server_step import STEPS, ServerOptimiser
from ravan.ids import BlockId, BlockKind

HEAD, OTHER = BlockId(BlockKind.HEAD, 0, 1, 0), BlockId(BlockKind.HEAD, 0, 2, 0)
DENSE = BlockId(BlockKind.DENSE, 0, 0, 0)
GENERATOR = np.random.default_rng(3)
MEANS = [GENERATOR.standard_normal((3, 3)) for _ in range(3)]


@pytest.mark.parametrize("kind", list(ServerOptimiser))
def test_the_classifier_takes_its_mean_as_it_is(kind: ServerOptimiser) -> None:
    step = STEPS[kind](0.5, 0.9)
    assert all(np.array_equal(step.take({DENSE: mean})[DENSE], mean) for mean in MEANS)


def test_without_an_optimiser_the_mean_is_scaled() -> None:
    step = STEPS[ServerOptimiser.NONE](0.5, 0.9)
    assert all(np.array_equal(step.take({HEAD: mean})[HEAD], 0.5 * mean) for mean in MEANS)


def test_momentum_is_a_geometric_sum_and_a_head_without_a_mean_keeps_its_own() -> None:
    step = STEPS[ServerOptimiser.MOMENTUM](0.5, 0.8)
    first = step.take({HEAD: MEANS[0], OTHER: MEANS[1]})
    second = step.take({OTHER: MEANS[2]})
    third = step.take({HEAD: MEANS[1]})
    assert np.allclose(first[HEAD], 0.5 * MEANS[0])
    assert set(second) == {OTHER}
    assert np.allclose(second[OTHER], 0.5 * (0.8 * MEANS[1] + MEANS[2]))
    assert np.allclose(third[HEAD], 0.5 * (0.8 * MEANS[0] + MEANS[1]))


def test_adam_divides_by_the_root_of_the_mean_square() -> None:
    step = STEPS[ServerOptimiser.ADAM](0.1, 0.9)
    first, second = step.take({HEAD: MEANS[0]})[HEAD], step.take({HEAD: MEANS[1]})[HEAD]
    squares = 0.01 * MEANS[0] ** 2
    assert np.allclose(first, 0.1 * 0.1 * MEANS[0] / (np.sqrt(squares) + 1e-3))
    squares = 0.99 * squares + 0.01 * MEANS[1] ** 2
    assert np.allclose(second, 0.1 * (0.09 * MEANS[0] + 0.1 * MEANS[1]) / (np.sqrt(squares) + 1e-3))


def test_muon_makes_all_singular_values_equal_and_keeps_the_norm() -> None:
    step = STEPS[ServerOptimiser.MUON](1.0, 0.0)
    taken = step.take({HEAD: MEANS[0]})[HEAD]
    values = np.linalg.svd(taken, compute_uv=False)
    assert np.allclose(values, values[0])
    assert np.isclose(np.linalg.norm(taken), np.linalg.norm(MEANS[0]))
    # Of all orthogonal matrices it is the nearest one: its product with the mean is symmetric and positive.
    polar = taken.T @ MEANS[0]
    assert np.allclose(polar, polar.T)
    assert np.linalg.eigvalsh(polar).min() >= 0
