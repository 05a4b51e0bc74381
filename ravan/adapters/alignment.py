"""The directions that bases lead with: those in which a loss falls fastest.

A core H_i can follow B_i^T G A_i^T of a gradient G and nothing else. Where the first columns of B are G's leading
left singular vectors, and the first rows of A its right ones, little of it is lost.

The vectors are found from two thin sketches, Y = G Omega and Z = Psi G, which are linear in G: those of batches, or of
sites, can be added up and the gradient forgotten (Tropp et al. 2017, "Practical sketching algorithms for low-rank
matrix approximation", SIAM J. Matrix Anal. Appl. 38(4), algorithm 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.adapters.basis import Directions
from ravan.adapters.draws import draw_normals
from ravan.manifest.plan import AdapterSettings, Matrix

Array = NDArray[np.float64]

DIRECTIONS: Final = 32
"""How many leading directions a matrix's bases begin with, where its heads have room for as many."""

_WIDTH: Final = 2 * DIRECTIONS
"""Columns of a gradient's sketch: twice what is looked for, so that the last of them is found too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What a matrix's gradient is looked at with; the same for all parts of a sum."""

    omega: Array = field(repr=False)
    """(in, width)."""
    psi: Array = field(repr=False)
    """(width', out); wider than omega, which is what makes the solve stable."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """What is seen of a gradient; sketches of a sum are sums of sketches."""

    range: Array = field(repr=False)
    """Y = G Omega, (out, width)."""
    corange: Array = field(repr=False)
    """Z = Psi G, (width', in)."""

    @property
    def numbers(self) -> int:
        """Return how many numbers it holds."""
        return self.range.size + self.corange.size


def draw_probe(out_features: int, in_features: int, width: int, normals: Callable[[tuple[int, int]], Array]) -> Probe:
    """Draw a probe that finds about `width` directions; the second side is half as wide again."""
    omega = normals((in_features, width))
    return Probe(omega=omega, psi=normals((width + width // 2 + 1, out_features)))


def probe_for(settings: AdapterSettings, matrix: Matrix) -> Probe:
    """Draw a matrix's probe from the job's seed."""

    def normals(shape: tuple[int, int]) -> Array:
        context = b"".join(part.to_bytes(4, "big") for part in (settings.epoch, matrix.ordinal, *shape))
        return draw_normals(settings.seed, b"ravan/alignment/v1", context, shape)

    width = min(_WIDTH, matrix.out_features, matrix.in_features)
    return draw_probe(matrix.out_features, matrix.in_features, width, normals)


def take_sketch(gradient: Array, probe: Probe) -> Sketch:
    """Look at one gradient (out, in)."""
    return Sketch(range=gradient @ probe.omega, corange=probe.psi @ gradient)


def add_sketches(sketches: Sequence[Sketch]) -> Sketch:
    """Return the sketch of the summed gradient."""
    return Sketch(
        range=np.sum([each.range for each in sketches], axis=0),
        corange=np.sum([each.corange for each in sketches], axis=0),
    )


def leading_directions(sketch: Sketch, probe: Probe, count: int) -> tuple[Array, Array]:
    """Return orthonormal (out, count) and (count, in): left and right singular vectors, largest values first.

    `count` is at most the width. Where the gradient has fewer directions, the others are arbitrary.
    """
    q, _ = np.linalg.qr(sketch.range)  # (out, width)
    core = np.linalg.lstsq(probe.psi @ q, sketch.corange, rcond=None)[0]  # (width, in)
    u, _, vt = np.linalg.svd(core, full_matrices=False)
    return q @ u[:, :count], vt[:count]


def find_directions(settings: AdapterSettings, matrix: Matrix, sketch: Sketch, probe: Probe) -> Directions:
    """Return what a matrix's bases are to lead with, given the sketch of its gradient under a probe."""
    mine = settings.for_matrix(matrix)
    count = min(DIRECTIONS, mine.heads * mine.rank, sketch.range.shape[1])
    left, right = leading_directions(sketch, probe, count)
    return Directions(left=np.ascontiguousarray(left, np.float32), right=np.ascontiguousarray(right, np.float32))
