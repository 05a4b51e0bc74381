"""The file of directions: what is written is read, and nothing else is taken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from ravan.adapters.basis import Directions
from ravan.adapters.directions import directions_in, encode_directions
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest
from ravan.manifest.plan import Matrix

OUT, INPUTS, COUNT = 6, 4, 2
MATRIX = Matrix(ordinal=1, name="m", out_features=OUT, in_features=INPUTS, basis_digest=Digest(b""))


def directions(count: int = COUNT, *, out: int = OUT, inputs: int = INPUTS) -> Directions:
    generator = np.random.default_rng(count)
    return Directions(
        left=generator.standard_normal((out, count)).astype(np.float32),
        # As a singular value decomposition may hand it over: transposed in memory.
        right=generator.standard_normal((inputs, count)).astype(np.float32).T,
    )


def test_what_is_written_is_read_matrix_by_matrix(tmp_path: Path) -> None:
    first, second = directions(3, out=5, inputs=9), directions()
    file = tmp_path / "f00d"
    file.write_bytes(encode_directions({0: first, 1: second}))
    source = directions_in(file)
    assert np.array_equal(source(MATRIX).left, second.left)
    assert np.array_equal(source(MATRIX).right, second.right)
    other = Matrix(ordinal=0, name="n", out_features=5, in_features=9, basis_digest=Digest(b""))
    assert np.array_equal(source(other).right, first.right)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"left.1": np.zeros((OUT, 2), np.float32)},
        {"left.1": np.zeros((OUT, 2), np.float32), "right.1": np.zeros((3, INPUTS), np.float32)},
        {"left.1": np.zeros((OUT, 2), np.float32), "right.1": np.zeros((2, INPUTS + 1), np.float32)},
        {"left.1": np.zeros((OUT + 1, 2), np.float32), "right.1": np.zeros((2, INPUTS), np.float32)},
        {"left.1": np.zeros((OUT, 5), np.float32), "right.1": np.zeros((5, INPUTS), np.float32)},
        {"left.1": np.zeros((OUT, 0), np.float32), "right.1": np.zeros((0, INPUTS), np.float32)},
        {"left.1": np.zeros((OUT, 2), np.float64), "right.1": np.zeros((2, INPUTS), np.float64)},
        {"left.1": np.zeros(OUT, np.float32), "right.1": np.zeros(INPUTS, np.float32)},
        {"left.1": np.full((OUT, 2), np.nan, np.float32), "right.1": np.zeros((2, INPUTS), np.float32)},
        {"left.1": np.zeros((OUT, 2), np.float32), "right.1": np.full((2, INPUTS), np.inf, np.float32)},
    ],
    ids=["empty", "one side", "counts", "columns", "rows", "too many", "none", "type", "flat", "nan", "inf"],
)
def test_directions_of_another_shape_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    file = tmp_path / "f00d"
    file.write_bytes(save(tensors))
    with pytest.raises(TransferError) as caught:
        directions_in(file)(MATRIX)
    assert caught.value.reason is ErrorReason.MALFORMED
    assert "Fetch it again" in caught.value.next_step


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_as_numbers_of_the_right_shape(data: st.DataObject) -> None:
    whole = encode_directions({1: directions()})
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        try:
            found = directions_in(Path(file.name))(MATRIX)
        except TransferError as error:
            assert error.reason is ErrorReason.MALFORMED  # noqa: PT017 - a sound reading is as good
        else:
            assert (found.left.shape, found.right.shape) == ((OUT, COUNT), (COUNT, INPUTS))
            assert np.isfinite(found.left).all()
            assert np.isfinite(found.right).all()
