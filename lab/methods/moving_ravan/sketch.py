"""The leading directions of a gradient from two thin sketches of it, which are linear and so can travel as a sum.

Of G (out, in) a client sends Y = G Omega and Z = Psi G with Omega (in, width) and Psi (width, out) drawn from the job's
seed. From the sums alone follows a rank-limited approximation of the summed gradient (Tropp et al. 2017, "Practical
sketching algorithms for low-rank matrix approximation", SIAM J. Matrix Anal. Appl. 38(4), algorithm 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What a matrix's gradient is looked at with; the same for all clients."""

    omega: Array = field(repr=False)
    """(in, width)."""
    psi: Array = field(repr=False)
    """(width, out); wider than omega, which is what makes the solve stable."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """What is seen of a gradient; sketches of a sum are sums of sketches."""

    range: Array = field(repr=False)
    """Y = G Omega, (out, width)."""
    corange: Array = field(repr=False)
    """Z = Psi G, (width', in)."""

    @property
    def numbers(self) -> int:
        """Return how many numbers travel."""
        return self.range.size + self.corange.size


def draw_probe(out_features: int, in_features: int, width: int, generator: np.random.Generator) -> Probe:
    """Draw a probe that finds about `width` directions; the second side is half as wide again."""
    wider = width + width // 2 + 1
    return Probe(
        omega=generator.standard_normal((in_features, width)), psi=generator.standard_normal((wider, out_features))
    )


def take_sketch(gradient: Array, probe: Probe) -> Sketch:
    """Look at one gradient."""
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
