"""What a dashboard shows, before anyone draws it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    """How a panel is drawn."""

    STAT = "stat"
    """One figure, of now."""
    LINES = "timeseries"
    HEATMAP = "heatmap"
    """Buckets over time."""


class PanelUnit(StrEnum):
    """Grafana's names of units."""

    COUNT = "short"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    RATIO = "percentunit"
    PER_SECOND = "ops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression."""

    expression: str
    """PromQL; may use `$__rate_interval`."""
    legend: str = ""
    """Name of each line; `{{label}}` stands for a label's value."""
    exemplars: bool = False
    """Whether points that lead to the traces of rounds are drawn as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture and the question that it answers."""

    title: str
    question: str
    shape: Shape
    unit: PanelUnit
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    """Stays when the title changes: links use it."""
    title: str
    panels: tuple[Panel, ...]


def stat(title: str, question: str, expression: str, unit: PanelUnit = PanelUnit.COUNT) -> Panel:
    """Describe one figure."""
    return Panel(title=title, question=question, shape=Shape.STAT, unit=unit, queries=(Query(expression=expression),))


def lines(title: str, question: str, unit: PanelUnit, *queries: tuple[str, str], exemplars: bool = False) -> Panel:
    """Describe lines over time, by expressions and their legends; exemplars come with the last."""
    asked = tuple(
        Query(expression=expression, legend=legend, exemplars=exemplars and number == len(queries))
        for number, (expression, legend) in enumerate(queries, start=1)
    )
    return Panel(title=title, question=question, shape=Shape.LINES, unit=unit, queries=asked)


def spread(title: str, question: str, metric: str, unit: PanelUnit) -> Panel:
    """Describe how a distribution over the sites moves."""
    query = Query(expression=f"sum by (le) ({metric}_bucket)", legend="{{le}}")
    return Panel(title=title, question=question, shape=Shape.HEATMAP, unit=unit, queries=(query,))
