"""Successive halving over learning rates. Pure: whoever runs the cells asks what comes next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def halve(accuracies: Mapping[float, float]) -> tuple[float, ...]:
    """Return the better half of the rates, at least one, ascending; of equal ones the smaller rate is better."""
    best = sorted(accuracies, key=lambda rate: (-accuracies[rate], rate))
    return tuple(sorted(best[: max(1, math.ceil(len(best) / 2))]))


def count_runs(rates: int, rungs: Sequence[int]) -> list[tuple[int, int]]:
    """Return (candidates, rounds) of each rung."""
    runs = []
    for rounds in rungs:
        runs.append((rates, rounds))
        rates = max(1, math.ceil(rates / 2))
    return runs
