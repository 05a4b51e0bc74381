"""How something is spread over the sites now: no site is named, and a fleet of any size takes as many series."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeHistogramMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values by bucket."""

    up_to: tuple[int, ...]
    """How many values are at most each bound; the last counts all."""
    total: float
    """Sum of the values."""


def spread_out(values: Iterable[float], bounds: Sequence[float]) -> Spread:
    """Count values by ascending bounds, of which the last is infinity."""
    counts, total = [0] * len(bounds), 0.0
    for value in values:
        counts[bisect_left(bounds, value)] += 1
        total += value
    return Spread(up_to=tuple(accumulate(counts)), total=total)


class Distribution(Collector):
    """A gauge histogram: other than a histogram it forgets what was."""

    def __init__(self, name: str, help: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """Show no values yet; bounds ascend, infinity is added."""
        self.name = name
        self._help = help
        self._bounds = (*bounds, math.inf)
        self._spread = spread_out((), self._bounds)
        registry.register(self)

    def show(self, values: Iterable[float]) -> None:
        """Take the values of now in place of those before."""
        self._spread = spread_out(values, self._bounds)

    def collect(self) -> Iterator[GaugeHistogramMetricFamily]:
        """Yield the buckets."""
        spread = self._spread
        names = ("+Inf" if math.isinf(bound) else str(bound) for bound in self._bounds)
        buckets = [(name, float(count)) for name, count in zip(names, spread.up_to, strict=True)]
        yield GaugeHistogramMetricFamily(self.name, self._help, buckets=buckets, gsum_value=spread.total)
