"""The two factors of a low-rank update of a weight, W + scale x B A (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lab.methods.dense import mean_of

SCALE: Final = 2.0
"""alpha / r, the usual 16 / 8; learning rates are tuned under it."""


DRAWN_NORM: Final = 3**-0.5
"""Length of a drawn row of A in the mean square: `in` entries of variance 1 / (3 in)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """Of one matrix."""

    b: Tensor = field(repr=False)
    """(out, r)."""
    a: Tensor = field(repr=False)
    """(r, in)."""

    @property
    def rank(self) -> int:
        """Return r."""
        return self.b.shape[1]

    def product(self) -> Tensor:
        """Return B A, (out, in), in float64."""
        return self.b.double() @ self.a.double()

    def cut(self, rank: int) -> Factors:
        """Return the first `rank` columns of B and rows of A."""
        return Factors(b=self.b[:, :rank].clone(), a=self.a[:rank].clone())

    def padded(self, rank: int) -> Factors:
        """Return them with columns and rows of zeros up to `rank`."""
        more = rank - self.rank
        pad = torch.nn.functional.pad
        return Factors(b=pad(self.b, (0, more)), a=pad(self.a, (0, 0, 0, more)))


Adapter = dict[str, Factors]
"""The factors of each adapted matrix by its name in the model."""


def draw_factors(out_features: int, in_features: int, rank: int, generator: np.random.Generator) -> Factors:
    """Return B = 0 and A uniform with variance 1 / (3 in), as PEFT draws it (Kaiming with a = sqrt 5)."""
    bound = in_features**-0.5
    a = generator.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
    return Factors(b=torch.zeros(out_features, rank), a=torch.from_numpy(a))


def straighten(factors: Factors) -> Factors:
    """Return them with orthonormal rows of A that span what its rows did."""
    return Factors(b=factors.b, a=torch.linalg.qr(factors.a.T.double()).Q.T.float())


def mean_factors(factors: Sequence[Factors]) -> Factors:
    """Return the means of B and of A, each for itself: not the factors of the mean product."""
    return Factors(b=mean_of([each.b for each in factors]), a=mean_of([each.a for each in factors]))


def mean_product(factors: Sequence[Factors]) -> Tensor:
    """Return the mean of the products B A, in float64."""
    return torch.stack([each.product() for each in factors]).mean(0)


def factorise(matrix: Tensor, rank: int) -> Factors:
    """Return the best factors of a rank (Eckart and Young): B = U S, and A = V^T with orthonormal rows."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    return Factors(b=(u[:, :rank] * s[:rank]).float(), a=vt[:rank].float())
