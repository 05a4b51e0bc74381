"""The fixed bases B_i and A_i of the heads: drawn from the job's seed, the same bits on every machine.

Those of an `aligned` job lead with directions that travel as a file (`directions.py`), and are drawn beyond them.

Matrix products and QR depend in their last bits on instruction set and thread count, so each basis is
rounded to multiples of 2^-20 before it becomes float32. A machine that still lands on another side of a
rounding edge notices by `basis_digest` and fetches `encode_basis`'s bytes instead.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.adapters.budget import largest_rank
from ravan.adapters.draws import draw_normals
from ravan.errors import ConfigError, ErrorReason, TransferError
from ravan.ids import Digest
from ravan.manifest.plan import AdapterSettings, BasisKind, Matrix

FloatArray = NDArray[np.float32]

_GRID: Final = float(1 << 20)
_MAGIC: Final = b"RVNBASE1"
_HEADER: Final = struct.Struct("<8sIIII")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Basis:
    """All bases of one adapted matrix, float32 in C order."""

    b: FloatArray
    """Shape (heads, out, r)."""
    a: FloatArray
    """Shape (heads, r, in)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Directions:
    """What the bases of one matrix lead with, orthonormal, float32."""

    left: FloatArray
    """Shape (out, k)."""
    right: FloatArray
    """Shape (k, in)."""


BasisSource = Callable[[Matrix], Basis]
"""Where an injection gets the bases of a matrix from: drawn, or downloaded by hash."""

DirectionSource = Callable[[Matrix], Directions]
"""Where the drawing of bases gets a matrix's directions from."""


def drawn_bases(settings: AdapterSettings, directions: DirectionSource | None = None) -> BasisSource:
    """Return a source that draws each matrix's bases when asked, behind its directions where the job has them."""

    def draw(matrix: Matrix) -> Basis:
        lead = None if directions is None else directions(matrix)
        return draw_basis(
            settings.for_matrix(matrix), matrix.ordinal, matrix.out_features, matrix.in_features, lead=lead
        )

    return draw


def draw_basis(
    settings: AdapterSettings,
    matrix_ordinal: int,
    out_features: int,
    in_features: int,
    *,
    lead: Directions | None = None,
) -> Basis:
    """Derive the bases of one matrix from (seed, epoch, matrix ordinal, head), and from `lead` if they are `aligned`.

    Columns of each B_i and rows of each A_i have length 1: exactly, up to rounding, for `gram_schmidt` and `aligned`
    (orthogonal across heads too), about 1 for the kinds drawn with sigma = 1 / sqrt(dimension).
    Raise ConfigError when the heads do not fit the matrix, ValueError for directions that are missing or have no use.
    """
    if settings.basis.is_led != (lead is not None):
        raise ValueError(f"{settings.basis} bases {'need' if settings.basis.is_led else 'have no'} directions")
    check_fits(settings, [(out_features, in_features, f"matrix {matrix_ordinal}")])
    columns = _Side(settings, matrix_ordinal, b"B", out_features, None if lead is None else lead.left)
    rows = _Side(settings, matrix_ordinal, b"A", in_features, None if lead is None else lead.right.T)
    derive = _DERIVATIONS[settings.basis]
    return Basis(b=_round(derive(columns)), a=_round(derive(rows).transpose(0, 2, 1)))


def check_fits(settings: AdapterSettings, matrices: Iterable[tuple[int, int, str]]) -> None:
    """Refuse heads that some (out, in, name) cannot hold: ConfigError ADAPTER_TOO_LARGE with a value that would."""
    crowded = settings.heads if settings.basis.is_orthogonal else min(settings.heads, 1)
    for out_features, in_features, name in matrices:
        room = min(out_features, in_features)
        if crowded * settings.rank > room:
            raise _too_large(settings, crowded, name, (out_features, in_features))


def basis_digest(basis: Basis) -> Digest:
    """Return the SHA-256 of `encode_basis`."""
    return Digest(hashlib.sha256(encode_basis(basis)).digest())


def encode_basis(basis: Basis) -> bytes:
    """Serialise: magic, then heads, out, in, r as u32, then all B and all A as float32, little-endian."""
    heads, out_features, rank = basis.b.shape
    header = _HEADER.pack(_MAGIC, heads, out_features, basis.a.shape[2], rank)
    return header + basis.b.astype("<f4").tobytes() + basis.a.astype("<f4").tobytes()


def decode_basis(data: bytes, settings: AdapterSettings, out_features: int, in_features: int) -> Basis:
    """Read `encode_basis`'s bytes for a matrix of known shape; raise TransferError MALFORMED for anything else."""
    heads, rank = settings.heads, settings.rank
    split = heads * out_features * rank
    count = split + heads * rank * in_features
    expected = _HEADER.pack(_MAGIC, heads, out_features, in_features, rank)
    if len(data) != _HEADER.size + 4 * count or data[: _HEADER.size] != expected:
        raise _malformed()
    numbers = np.frombuffer(data, dtype="<f4", offset=_HEADER.size).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise _malformed()
    return Basis(
        b=numbers[:split].reshape(heads, out_features, rank), a=numbers[split:].reshape(heads, rank, in_features)
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a matrix: the draws for its B (length out) or its A (length in)."""

    settings: AdapterSettings
    matrix: int
    name: bytes
    length: int
    lead: FloatArray | None
    """(length, k)."""

    def normals(self, part: bytes, head: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the standard normals of one named part of one head."""
        context = struct.pack(">HIHII", self.settings.epoch, self.matrix, head, *shape)
        label = b"ravan/basis/v1/" + self.settings.basis.encode() + b"/" + self.name + b"/" + part
        return draw_normals(self.settings.seed, label, context, shape)

    def scaled(self, part: bytes, head: int) -> NDArray[np.float64]:
        """Return normals of shape (length, r) with sigma = 1 / sqrt(length), so that columns have about unit norm."""
        normals = self.normals(part, head, (self.length, self.settings.rank))
        return normals * float(1.0 / np.sqrt(self.length))


def _gram_schmidt(side: _Side) -> NDArray[np.float64]:
    heads, rank = side.settings.heads, side.settings.rank
    shape = (side.length, rank)
    drawn = [side.normals(b"columns", head, shape) for head in range(heads)]
    # Head 1 gets the first r directions, head 2 the next: those that belong together meet in one core.
    given = [] if side.lead is None else [side.lead.astype(np.float64)]
    columns = np.concatenate([*given, *drawn], axis=1)[:, : heads * rank]
    return orthonormalise(columns).reshape(side.length, heads, rank).transpose(1, 0, 2)


def _normal(side: _Side) -> NDArray[np.float64]:
    return np.stack([side.scaled(b"columns", head) for head in range(side.settings.heads)])


def _shared(side: _Side) -> NDArray[np.float64]:
    """Return one drawn subspace as each head sees it: turned by an orthogonal, so invertible, R_i of its own."""
    rank = side.settings.rank
    subspace = side.scaled(b"subspace", 0)
    rotations = (orthonormalise(side.normals(b"rotation", head, (rank, rank))) for head in range(side.settings.heads))
    return np.stack([subspace @ rotation for rotation in rotations])


def _constant(side: _Side) -> NDArray[np.float64]:
    return np.repeat(side.scaled(b"columns", 0)[None], side.settings.heads, axis=0)


_DERIVATIONS: Final[dict[BasisKind, Callable[[_Side], NDArray[np.float64]]]] = {
    BasisKind.ALIGNED: _gram_schmidt,
    BasisKind.GRAM_SCHMIDT: _gram_schmidt,
    BasisKind.NORMAL: _normal,
    BasisKind.SHARED: _shared,
    BasisKind.CONSTANT: _constant,
}


def orthonormalise(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Q of columns = Q R with R's diagonal positive: the one that Gram-Schmidt gives, whatever the LAPACK."""
    q, r = np.linalg.qr(columns)
    oriented: NDArray[np.float64] = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return oriented


def _round(exact: NDArray[np.float64]) -> FloatArray:
    # Adding 0.0 turns -0.0 into 0.0: the sign of a number that rounds to nothing is not reproducible.
    return np.ascontiguousarray(np.rint(exact * _GRID) / _GRID + 0.0, dtype=np.float32)


def _too_large(settings: AdapterSettings, crowded: int, name: str, shape: tuple[int, int]) -> ConfigError:
    fitting = largest_rank(*shape, crowded)
    room = f"{name} is {shape[0]} x {shape[1]}, which holds {min(shape)}"
    if crowded > 1:
        fewer = min(shape) // settings.rank
        options = [f"rank to at most {fitting}"] if fitting else []
        options += [f"heads to at most {fewer}"] if fewer else []
        needs = f"{crowded} orthogonal heads of rank {settings.rank} need {crowded * settings.rank} directions"
    else:
        options = [f"rank to at most {fitting}"]
        needs = f"a head of rank {settings.rank} needs {settings.rank} directions"
    return ConfigError(
        f"The adapter is too large: {needs}, but {room}.",
        reason=ErrorReason.ADAPTER_TOO_LARGE,
        next_step=f"In [adapter], set {' or '.join(options)}.",
    )


def _malformed() -> TransferError:
    return TransferError(
        "The bases that arrived do not have the announced shape.",
        reason=ErrorReason.MALFORMED,
        next_step="Fetch them again; if it happens twice, the coordinator's stored copy is damaged.",
    )
