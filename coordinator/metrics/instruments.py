"""Making metrics on a registry, each with its description."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from coordinator.metrics.description import Description, Kind, Unit
from coordinator.metrics.distribution import Distribution

Values = type[StrEnum] | Collection[str]
"""The closed list of what a label may be."""

_Metric = TypeVar("_Metric", Counter, Gauge)


class Instruments:
    """Make metrics and remember what they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.descriptions: list[Description] = []
        """In the order of their making."""

    def counter(self, name: str, help: str, question: str, /, **labels: Values) -> Counter:
        """Make a counter that has all values of its labels from the start."""
        described = self.describe(name, Kind.COUNTER, help, question, **labels)
        return _fill(Counter(name, help, tuple(labels), registry=self._registry), described)

    def gauge(
        self,
        name: str,
        help: str,
        question: str,
        unit: Unit | None = None,
        /,
        *,
        from_the_start: bool = True,
        **labels: Values,
    ) -> Gauge:
        """Make a gauge; without `from_the_start` it has no value before the first is set."""
        described = self.describe(name, Kind.GAUGE, help, question, unit, **labels)
        gauge = Gauge(name, help, tuple(labels), registry=self._registry)
        return _fill(gauge, described) if from_the_start else gauge

    def histogram(
        self, name: str, help: str, question: str, buckets: Sequence[float], /, **labels: Values
    ) -> Histogram:
        """Make a histogram; buckets ascend."""
        self.describe(name, Kind.HISTOGRAM, help, question, **labels)
        return Histogram(name, help, tuple(labels), buckets=buckets, registry=self._registry)

    def distribution(self, name: str, help: str, question: str, bounds: Sequence[float]) -> Distribution:
        """Make a distribution over the sites; bounds ascend."""
        self.describe(name, Kind.DISTRIBUTION, help, question)
        return Distribution(name, help, bounds, self._registry)

    def describe(
        self,
        name: str,
        kind: Kind,
        help: str,
        question: str,
        unit: Unit | None = None,
        /,
        **labels: Values,
    ) -> Description:
        """Take note of what a metric is; the unit is the name's unless it is given."""
        described = Description(
            name=name,
            kind=kind,
            unit=unit or _unit_of(name),
            help=help,
            question=question,
            labels={label: tuple(values) for label, values in labels.items()},
        )
        self.descriptions.append(described)
        return described


def _fill(metric: _Metric, described: Description) -> _Metric:
    """Make a series for each combination of labels."""
    if described.labels:
        for values in described.combinations():
            metric.labels(*values)
    return metric


def _unit_of(name: str) -> Unit:
    """Read the unit off a name, as Prometheus' conventions have it."""
    word = name.removesuffix("_total").rpartition("_")[2]
    return Unit(word) if word in tuple(Unit) else Unit.COUNT
