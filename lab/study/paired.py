"""Differences between methods on the same clients and batches, with their intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""The 0.975 quantile of Student's t with 1, 2, ... degrees of freedom, from any table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better one method is than another."""

    mean: float
    half_width: float
    """Of the 95 % interval; infinite for a single pair, of which no spread is known."""
    count: int
    """Of pairs, or of the runs in the smaller of two sets."""

    @property
    def is_clear(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return abs(self.mean) > self.half_width


def compare(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Return the mean of one minus other over pairs of runs, with Student's interval; raise ValueError for no pair."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    count = len(differences)
    if not count:
        raise ValueError("nothing to compare")
    mean = math.fsum(differences) / count
    if count == 1:
        return Difference(mean=mean, half_width=math.inf, count=1)
    deviation = spread(differences)
    return Difference(mean=mean, half_width=quantile(count - 1) * deviation / math.sqrt(count), count=count)


def spread(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for one value."""
    count = len(values)
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1)) if count > 1 else 0.0


def quantile(freedom: int) -> float:
    """Return the 0.975 quantile of Student's t with so many degrees of freedom, at least 1."""
    # Beyond the table the quantile falls by less than 0.13, so its last entry errs on the careful side.
    return T_975[min(freedom, len(T_975)) - 1]
