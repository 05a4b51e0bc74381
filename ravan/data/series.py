"""Windows over the rows of sensor tables: numbers of several channels, and one label from those of the rows.

Rows stand in the order of time. Where a column tells series apart (machines, runs), no window goes over the border of
two, and rows of a series need not stand together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.data.cells import Cell, number_of, text_of
from ravan.data.labels import LabelIndex, printable
from ravan.data.source import DataSource, DecimalMark, nothing_to_learn, unreadable
from ravan.data.tables import Refuse, iterate_rows, raise_refusal
from ravan.errors import DataError
from ravan.manifest.plan import LabelRule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesExamples:
    """Labelled windows, which share the rows that they have in common."""

    values: NDArray[np.float32] = field(repr=False)
    """(rows, channels)."""
    starts: NDArray[np.int64] = field(repr=False)
    """First row of each window."""
    window: int
    """Rows of a window."""
    label_ids: tuple[int, ...] = field(repr=False)
    left_out: int
    """Series left out because they are shorter than a window."""

    def __len__(self) -> int:
        return len(self.label_ids)

    def contents(self) -> Iterator[tuple[bytes, object]]:
        """Yield each example's bytes, and its label."""
        for start, label in zip(self.starts, self.label_ids, strict=True):
            yield self.values[start : start + self.window].tobytes(), label

    def choose(self, rows: Sequence[int]) -> SeriesExamples:
        """Return those examples alone."""
        return replace(self, starts=self.starts[list(rows)], label_ids=tuple(self.label_ids[row] for row in rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How series are cut."""

    rows: int
    step: int
    """Rows from the start of one to the next."""
    rule: LabelRule = LabelRule.LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One row of a table of sensor values."""

    line: int
    series: str
    """Which series it belongs to."""
    values: tuple[float, ...]
    """By channel."""
    label: str


@dataclass(slots=True)
class _Series:
    rows: list[tuple[float, ...]] = field(default_factory=list)
    label_ids: list[int] = field(default_factory=list)


def read_series(source: DataSource, labels: Sequence[str], channels: Sequence[str], window: Window) -> SeriesExamples:
    """Cut the series of a table into windows.

    Raise DataError DATA_UNREADABLE for a table without a whole window or one that cannot be read, and
    DATA_UNKNOWN_LABEL for a label outside `labels`.
    """
    series = _collect_series(source, labels, channels)
    choose = _RULES[window.rule]
    values: list[tuple[float, ...]] = []
    starts: list[int] = []
    ids: list[int] = []
    left_out = 0
    for each in series.values():
        firsts = range(0, len(each.rows) - window.rows + 1, window.step)
        left_out += not firsts
        starts += [len(values) + first for first in firsts]
        ids += [choose(each.label_ids[first : first + window.rows]) for first in firsts]
        values += each.rows
    if not starts:
        raise nothing_to_learn(source.name, f"series of {window.rows} rows, which is what the model looks at")
    return SeriesExamples(
        values=np.asarray(values, np.float32),
        starts=np.asarray(starts, np.int64),
        window=window.rows,
        label_ids=tuple(ids),
        left_out=left_out,
    )


def _most_frequent(label_ids: Sequence[int]) -> int:
    counts = Counter(label_ids)
    # The first of the largest: among equals, the one that comes latest.
    return max(reversed(label_ids), key=counts.__getitem__)


_RULES: Final[Mapping[LabelRule, Callable[[Sequence[int]], int]]] = {
    LabelRule.LAST: lambda label_ids: label_ids[-1],
    LabelRule.MAJORITY: _most_frequent,
    LabelRule.ANY: max,
}
"""A window's label id from those of its rows."""


def iterate_readings(source: DataSource, channels: Sequence[str], refuse: Refuse = raise_refusal) -> Iterator[Reading]:
    """Yield the rows of a table with a number for each channel; labels are not checked, and empty where none stand."""
    columns = [source.columns.get(channel, channel) for channel in channels]
    group, label = ((column,) if column else () for column in (source.group, source.label))
    # One and the same column may be wanted twice.
    wanted = tuple(dict.fromkeys((*columns, *label, *group)))
    for line, cells in iterate_rows(source, wanted, refuse):
        values = tuple(number_of(cells[column], source.decimal) for column in columns)
        gap = next((column for column, value in zip(columns, values, strict=True) if math.isnan(value)), None)
        if gap is not None:
            refuse(_no_number(source, line, gap, cells[gap]))
            continue
        series = text_of(cells[source.group]) if group else ""
        told = text_of(cells[source.label]).strip() if label else ""
        yield Reading(line=line, series=series, values=values, label=told)


def _collect_series(source: DataSource, labels: Sequence[str], channels: Sequence[str]) -> dict[str, _Series]:
    index = LabelIndex(labels)
    series: dict[str, _Series] = {}
    for reading in iterate_readings(source, channels):
        each = series.setdefault(reading.series, _Series())
        each.label_ids.append(index.look_up(reading.label, source.place(reading.line)))
        each.rows.append(reading.values)
    return series


def _no_number(source: DataSource, line: int, column: str, cell: Cell) -> DataError:
    # Only where the other mark would make it a number is that what may be meant.
    other = DecimalMark.POINT if source.decimal is DecimalMark.COMMA else DecimalMark.COMMA
    hint = "" if math.isnan(number_of(cell, other)) else f', or set decimal = "{other}"'
    return unreadable(
        f"{source.place(line)} has no number in '{column}' but '{printable(text_of(cell))}'.",
        f"Fill the gap or delete that line; numbers are written with a '{source.decimal}' there{hint}.",
    )
