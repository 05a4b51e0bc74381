"""What is to be known of a metric before it has a value: its kind, unit, labels, and the question that it answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product


class Kind(StrEnum):
    """How a metric is read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    """Observations since the start of the process."""
    DISTRIBUTION = "distribution"
    """What is so now, spread over buckets: OpenMetrics' gauge histogram."""


class Unit(StrEnum):
    """What a value counts; base units alone."""

    SECONDS = "seconds"
    BYTES = "bytes"
    RATIO = "ratio"
    NATS = "nats"
    COUNT = "count"
    """Sites, rounds, calls: the name says of what."""


_SUFFIXES = {
    Kind.COUNTER: ("",),
    Kind.GAUGE: ("",),
    Kind.HISTOGRAM: ("_bucket", "_count", "_sum"),
    Kind.DISTRIBUTION: ("_bucket", "_gcount", "_gsum"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One metric of the catalogue."""

    name: str
    """Without the suffixes of the series of a histogram."""
    kind: Kind
    unit: Unit
    help: str
    question: str
    """What somebody who looks at it wants to know."""
    labels: Mapping[str, Collection[str]]
    """The values of each label; empty where the code cannot list them."""

    @property
    def series(self) -> tuple[str, ...]:
        """Return the names that queries use."""
        return tuple(f"{self.name}{suffix}" for suffix in _SUFFIXES[self.kind])

    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """Return all values of the labels together; none where one label's values cannot be listed."""
        return tuple(product(*self.labels.values()))
