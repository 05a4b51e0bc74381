"""The difference between two sets of runs that share nothing but the plan, with its interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.study.paired import Difference, quantile, spread


def contrast(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Return the mean of one minus the other's, with Welch's 95 % interval (Welch 1947).

    The interval is infinite where a set has a single run. Raise ValueError for an empty one.
    """
    if not one or not other:
        raise ValueError("nothing to compare")
    mean = math.fsum(one) / len(one) - math.fsum(other) / len(other)
    fewer = min(len(one), len(other))
    if fewer == 1:
        return Difference(mean=mean, half_width=math.inf, count=1)
    parts = [(spread(values) ** 2 / len(values), len(values) - 1) for values in (one, other)]
    variance = sum(part for part, _ in parts)
    if not variance:
        return Difference(mean=mean, half_width=0.0, count=fewer)
    # By shares of the variance: its square is nothing where it is small.
    freedom = 1.0 / sum((part / variance) ** 2 / degrees for part, degrees in parts)
    # Rounded down, which errs on the careful side.
    return Difference(mean=mean, half_width=quantile(max(1, int(freedom))) * math.sqrt(variance), count=fewer)
