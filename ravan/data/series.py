"""Windows over the rows of sensor tables: numbers of several channels, and one label from those of the rows.

Rows stand in the order of time. Where a column tells series apart (machines, runs), no window goes over the border of
two, and rows of a series need not stand together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ravan.data.cells import Cell, number_of, text_of
from ravan.data.labels import LabelIndex, printable
from ravan.data.source import DataSource, DecimalMark, nothing_to_learn, unreadable
from ravan.data.tables import iterate_rows
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How series are cut."""

    rows: int
    step: int
    """Rows from the start of one to the next."""
    rule: LabelRule = LabelRule.LAST


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


def iterate_labels(source: DataSource) -> Iterator[str]:
    """Yield the label of each row; which channels a job needs is not known here."""
    wanted = (source.label, *_group_columns(source))
    for _, cells in iterate_rows(source, wanted):
        yield text_of(cells[source.label]).strip()


def _collect_series(source: DataSource, labels: Sequence[str], channels: Sequence[str]) -> dict[str, _Series]:
    columns = [source.columns.get(channel, channel) for channel in channels]
    group = _group_columns(source)
    index = LabelIndex(labels)
    series: dict[str, _Series] = {}
    for line, cells in iterate_rows(source, (*columns, source.label, *group)):
        each = series.setdefault(text_of(cells[source.group]) if group else "", _Series())
        each.label_ids.append(index.look_up(text_of(cells[source.label]).strip(), source.place(line)))
        each.rows.append(tuple(_number(source, line, column, cells[column]) for column in columns))
    return series


def _group_columns(source: DataSource) -> tuple[str, ...]:
    return (source.group,) if source.group else ()


def _number(source: DataSource, line: int, column: str, cell: Cell) -> float:
    value = number_of(cell, source.decimal)
    if math.isnan(value):
        # Only where the other mark would make it a number is that what may be meant.
        other = DecimalMark.POINT if source.decimal is DecimalMark.COMMA else DecimalMark.COMMA
        hint = "" if math.isnan(number_of(cell, other)) else f', or set decimal = "{other}"'
        raise unreadable(
            f"{source.place(line)} has no number in '{column}' but '{printable(text_of(cell))}'.",
            f"Fill the gap or delete that line; numbers are written with a '{source.decimal}' there{hint}.",
        )
    return value
