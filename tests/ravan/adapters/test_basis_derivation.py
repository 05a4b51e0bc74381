"""Bases: what each kind promises, the same bits on every machine, and the blob that stands in for them."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adapter_plans import lead_for, settings_for
from hypothesis import given
from hypothesis import strategies as st

from ravan.adapters.basis import Basis, basis_digest, check_fits, decode_basis, draw_basis, encode_basis
from ravan.errors import ConfigError, ErrorReason, TransferError
from ravan.keystream import expand
from ravan.manifest.plan import BasisKind

OUT, IN, HEADS, RANK = 40, 24, 3, 7

DERIVE = """
import hashlib, json
import numpy as np
from ravan.adapters.basis import Directions, basis_digest, draw_basis
from ravan.adapters.draws import draw_normals
from ravan.manifest.plan import AdapterSettings, BasisKind
digests = {}
left, right = (draw_normals(bytes(32), b"lead", b"", shape).astype(np.float32) for shape in ((384, 32), (32, 512)))
lead = Directions(left=left, right=right)
for kind in BasisKind:
    settings = AdapterSettings(heads=4, rank=39, basis=kind, seed=bytes(range(32)))
    digests[kind] = basis_digest(draw_basis(settings, 5, 384, 512, lead=lead if kind.is_led else None)).hex()
raw = np.linalg.qr(np.sin(np.arange(384.0 * 156)).reshape(384, 156))[0]
print(json.dumps({"digests": digests, "raw": hashlib.sha256(raw.tobytes()).hexdigest()}))
"""

CPU_INFO = Path("/proc/cpuinfo").read_text(encoding="utf-8")
MACHINES = [
    {"OPENBLAS_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Zen"},
    # A processor without these instructions ends the process that is told to use them.
    *([{"OPENBLAS_CORETYPE": "SkylakeX"}] if " avx512f " in CPU_INFO else []),
    {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR", "OPENBLAS_CORETYPE": "Nehalem"},
]


def derive_on(machine: dict[str, str]) -> dict[str, object]:
    environment = os.environ | {"PYTHONWARNINGS": "ignore"} | machine
    done = subprocess.run([sys.executable, "-c", DERIVE], env=environment, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_digests_do_not_depend_on_instruction_set_or_threads() -> None:
    results = [derive_on(machine) for machine in MACHINES]
    assert len({str(result["raw"]) for result in results}) > 1, "the settings did not even change a plain QR"
    assert len({json.dumps(result["digests"]) for result in results}) == 1


@pytest.mark.parametrize("package", ["edge_agent", "coordinator"])
@pytest.mark.parametrize(("asked", "got"), [(None, "1"), ("3", "3")])
def test_programs_draw_on_one_thread_unless_told_otherwise(package: str, asked: str | None, got: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if asked is None else {"OPENBLAS_NUM_THREADS": asked}
    # The main module of a program is imported after its package; numpy must not have come in before.
    code = f"import sys, os, {package}; print('numpy' in sys.modules, os.environ['OPENBLAS_NUM_THREADS'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", got]


@pytest.mark.parametrize("kind", list(BasisKind))
def test_every_kind_is_float32_on_the_grid(kind: BasisKind) -> None:
    basis = draw_basis(settings_for(HEADS, RANK, kind), 0, OUT, IN, lead=lead_for(kind, OUT, IN))
    assert basis.b.shape == (HEADS, OUT, RANK)
    assert basis.a.shape == (HEADS, RANK, IN)
    for side in (basis.b, basis.a):
        assert side.dtype == np.float32
        scaled = side.astype(np.float64) * 2**20
        assert (scaled == np.rint(scaled)).all()


def test_zero_has_no_sign() -> None:
    """A number that rounds to nothing may come out of a QR with either sign."""
    side = draw_basis(settings_for(4, 64, BasisKind.NORMAL), 0, 2048, 64).b
    # 2048 long, the grid is wider than two of the draw's steps: both signs of zero would occur among 524,288.
    assert (side == 0).sum() > 1
    assert not np.signbit(side[side == 0]).any()


@pytest.mark.parametrize("kind", [BasisKind.GRAM_SCHMIDT, BasisKind.ALIGNED])
def test_orthogonal_kinds_are_orthonormal_across_heads(kind: BasisKind) -> None:
    basis = draw_basis(settings_for(HEADS, RANK, kind), 0, OUT, IN, lead=lead_for(kind, OUT, IN))
    columns = np.concatenate(list(basis.b), axis=1).astype(np.float64)
    rows = np.concatenate(list(basis.a), axis=0).astype(np.float64)
    eye = np.eye(HEADS * RANK)
    np.testing.assert_allclose(columns.T @ columns, eye, atol=OUT * 2**-20)
    np.testing.assert_allclose(rows @ rows.T, eye, atol=IN * 2**-20)


def gram_schmidt_by_hand(seed: bytes, epoch: int, matrix: int, side: bytes, length: int) -> list[list[float]]:
    """Draw and orthonormalise column by column, from the documented names; returns the columns of all heads."""
    columns: list[list[float]] = []
    for head in range(HEADS):
        context = struct.pack(">HIHII", epoch, matrix, head, length, RANK)
        stream = expand(seed, b"ravan/basis/v1/gram_schmidt/" + side + b"/columns", context, 24 * length * RANK)
        terms = struct.unpack(f"<{12 * length * RANK}H", stream)
        draws = [(sum(terms[12 * i : 12 * i + 12]) - 393210) / 65536 for i in range(length * RANK)]
        for j in range(RANK):
            column = draws[j::RANK]
            for earlier in columns:
                overlap = math.fsum(e * c for e, c in zip(earlier, column, strict=True))
                column = [c - overlap * e for c, e in zip(column, earlier, strict=True)]
            norm = math.sqrt(math.fsum(c * c for c in column))
            columns.append([c / norm for c in column])
    return columns


@pytest.mark.parametrize(("side", "length"), [(b"B", OUT), (b"A", IN)])
def test_gram_schmidt_matches_the_textbook_column_by_column(side: bytes, length: int) -> None:
    """Also pins the names of the draws: changing them would change the bases of every running job."""
    basis = draw_basis(replace(settings_for(HEADS, RANK), epoch=3), 5, OUT, IN)
    flat = basis.b.transpose(0, 2, 1) if side == b"B" else basis.a
    expected = gram_schmidt_by_hand(settings_for(HEADS, RANK).seed, 3, 5, side, length)
    np.testing.assert_allclose(flat.reshape(HEADS * RANK, length), expected, atol=2**-21 + 1e-12)


def test_normal_has_the_stated_sigma() -> None:
    basis = draw_basis(settings_for(4, 32, BasisKind.NORMAL), 0, 400, 100)
    # 51,200 and 12,800 draws: four standard errors of a standard deviation are 4 / sqrt(2 n).
    assert basis.b.std() * np.sqrt(400) == pytest.approx(1, abs=4 / np.sqrt(2 * 51_200))
    assert basis.a.std() * np.sqrt(100) == pytest.approx(1, abs=4 / np.sqrt(2 * 12_800))
    assert basis.b.mean() * np.sqrt(400) == pytest.approx(0, abs=4 / np.sqrt(51_200))


def test_shared_heads_see_one_subspace_through_different_rotations() -> None:
    basis = draw_basis(settings_for(HEADS, RANK, BasisKind.SHARED), 0, OUT, IN)
    columns = np.concatenate(list(basis.b), axis=1)
    assert np.linalg.matrix_rank(columns, tol=1e-3) == RANK
    assert np.linalg.matrix_rank(np.concatenate(list(basis.a), axis=0), tol=1e-3) == RANK
    assert not np.allclose(basis.b[0], basis.b[1], atol=1e-2)
    rotation = np.linalg.lstsq(basis.b[0], basis.b[1], rcond=None)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(RANK), atol=1e-3)


def test_constant_heads_are_equal() -> None:
    basis = draw_basis(settings_for(HEADS, RANK, BasisKind.CONSTANT), 0, OUT, IN)
    assert (basis.b == basis.b[0]).all()
    assert (basis.a == basis.a[0]).all()
    assert np.linalg.matrix_rank(basis.b[0]) == RANK


@pytest.mark.parametrize("kind", list(BasisKind))
def test_seed_epoch_and_matrix_name_the_basis(kind: BasisKind) -> None:
    settings, lead = settings_for(2, 5, kind), lead_for(kind, 20, 20)
    digests = {
        basis_digest(draw_basis(settings, 0, 20, 20, lead=lead)),
        basis_digest(draw_basis(settings, 1, 20, 20, lead=lead)),
        basis_digest(draw_basis(replace(settings, epoch=1), 0, 20, 20, lead=lead)),
        basis_digest(draw_basis(replace(settings, seed=bytes(32)), 0, 20, 20, lead=lead)),
    }
    assert len(digests) == 4


@pytest.mark.parametrize("kind", [BasisKind.NORMAL, BasisKind.GRAM_SCHMIDT, BasisKind.SHARED])
def test_heads_and_sides_are_drawn_apart(kind: BasisKind) -> None:
    basis = draw_basis(settings_for(2, 5, kind), 0, 20, 20)
    assert not np.allclose(basis.b[0], basis.b[1], atol=1e-2)
    assert not np.allclose(basis.b[0], basis.a[0].T, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "heads", "rank", "said"),
    [
        (BasisKind.GRAM_SCHMIDT, 4, 7, "rank to at most 6 or heads to at most 3"),
        (BasisKind.GRAM_SCHMIDT, 1, 25, "rank to at most 24"),
        (BasisKind.GRAM_SCHMIDT, 25, 1, "heads to at most 24"),
        (BasisKind.NORMAL, 2, 25, "rank to at most 24"),
        (BasisKind.SHARED, 2, 30, "rank to at most 24"),
        (BasisKind.CONSTANT, 2, 30, "rank to at most 24"),
    ],
)
def test_heads_that_do_not_fit_are_refused_with_the_value_that_would(
    kind: BasisKind, heads: int, rank: int, said: str
) -> None:
    settings = settings_for(heads, rank, kind)
    with pytest.raises(ConfigError, match=r"encoder\.query is 40 x 24") as refused:
        check_fits(settings, [(100, 100, "first"), (OUT, IN, "encoder.query")])
    assert refused.value.reason is ErrorReason.ADAPTER_TOO_LARGE
    assert said in refused.value.next_step
    with pytest.raises(ConfigError):
        draw_basis(settings, 0, OUT, IN)


@pytest.mark.parametrize("kind", [BasisKind.NORMAL, BasisKind.SHARED, BasisKind.CONSTANT])
def test_only_gram_schmidt_needs_room_for_all_heads(kind: BasisKind) -> None:
    check_fits(settings_for(8, 20, kind), [(OUT, IN, "query")])
    assert draw_basis(settings_for(8, 20, kind), 0, OUT, IN).b.shape == (8, OUT, 20)


def test_blob_brings_the_same_basis() -> None:
    settings = settings_for(HEADS, RANK)
    basis = draw_basis(settings, 2, OUT, IN)
    again = decode_basis(encode_basis(basis), settings, OUT, IN)
    np.testing.assert_array_equal(again.b, basis.b)
    np.testing.assert_array_equal(again.a, basis.a)
    assert basis_digest(again) == basis_digest(basis)


def test_digest_sees_every_number_and_the_shape() -> None:
    b, a = np.zeros((1, 4, 2), np.float32), np.zeros((1, 2, 6), np.float32)
    changed = b.copy()
    changed[0, 3, 1] = 2.0**-20
    digests = {
        basis_digest(Basis(b=b, a=a)),
        basis_digest(Basis(b=changed, a=a)),
        basis_digest(Basis(b=np.zeros((1, 6, 2), np.float32), a=np.zeros((1, 2, 4), np.float32))),
    }
    assert len(digests) == 3


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(TransferError) as refused:
        decode_basis(data, settings_for(HEADS, RANK), OUT, IN)
    assert refused.value.reason is ErrorReason.MALFORMED


@pytest.mark.parametrize("damage", ["short", "long", "magic", "shape", "nan"])
def test_damaged_blob_is_refused(damage: str) -> None:
    settings = settings_for(HEADS, RANK)
    blob = encode_basis(draw_basis(settings, 2, OUT, IN))
    damaged = {
        "short": blob[:-1],
        "long": blob + b"\0",
        "magic": b"X" + blob[1:],
        "shape": blob[:8] + b"\xff\xff\xff\xff" + blob[12:],
        "nan": blob[:-4] + np.float32(np.nan).tobytes(),
    }
    with pytest.raises(TransferError):
        decode_basis(damaged[damage], settings, OUT, IN)


def test_daemon_modules_do_not_import_torch() -> None:
    code = (
        "import sys, ravan.adapters.basis, ravan.adapters.budget, ravan.adapters.state, ravan.adapters.export;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
