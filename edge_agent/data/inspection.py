"""A site's data, looked through before a job comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge_agent.config import AgentFile, DataTable
from edge_agent.data.report import DataReport, Expectation
from edge_agent.data.site_data import check_number, source_of
from ravan.data.contents import ContentRegister, Duplicates
from ravan.data.images import iterate_images
from ravan.data.labels import LabelIndex
from ravan.data.series import iterate_readings
from ravan.data.source import DataKind, DataSource, nothing_to_learn
from ravan.data.tables import Refuse
from ravan.data.texts import iterate_texts
from ravan.errors import DataError

SHOWN_FAULTS: Final = 20
"""Most faults that are listed; all are counted."""

_SIDE: Final = 64
"""Pixels of both sides of images that are compared; the job that comes may compare at another size."""

_WANTED: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "row with a text",
    DataKind.IMAGES: "image that can be read",
    DataKind.SERIES: "row with a label",
}
"""What there must be one of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A row or image."""

    label: str
    place: str
    content: bytes | None
    """What it is compared by; None: there is nothing to learn from."""


def inspect_data(config: AgentFile, name: str, expected: Expectation) -> DataReport:
    """Count the examples of one table by label, and list what a job would refuse.

    Raise DataError when nothing can be read or nothing can be learnt. Blocks on the disk or a database.
    """
    table = config.data_table(name)
    source = source_of(name, table)
    tally = _Tally(table, expected)
    for item in _ITEMS[table.kind](source, expected, tally.refuse):
        tally.count(item)
    report = tally.report(name, config.policy.minimum_examples)
    if not report.per_label and not report.faulty:
        raise nothing_to_learn(source.name, _WANTED[table.kind])
    return report


class _Tally:
    """What was counted so far."""

    def __init__(self, table: DataTable, expected: Expectation) -> None:
        self._table = table
        self._expected = expected
        self._register = ContentRegister(table.validation_share)
        self._labels: Counter[str] = Counter()
        self._left_out = 0
        self._seen = 0
        self._duplicates = 0
        self._kept_back = 0
        self._faults: list[str] = []
        self._faulty = 0
        self._learnable = 0
        """Examples that would be learnt from, were there no faults."""

    def refuse(self, fault: DataError) -> None:
        """Count a row for which a job would refuse all."""
        self._faulty += 1
        if len(self._faults) < SHOWN_FAULTS:
            self._faults.append(str(fault))

    def count(self, item: _Item) -> None:
        """Count a row or image that could be read."""
        if item.content is None:
            self._left_out += 1
            return
        if item.label:
            self._labels[item.label] += 1
        known = self._expected.labels or ((item.label,) if item.label else ())
        try:
            LabelIndex(known).look_up(item.label, item.place)
        except DataError as fault:
            self.refuse(fault)
        else:
            self._weigh(item.content, item.label)

    def report(self, name: str, minimum: int) -> DataReport:
        """Return what was counted."""
        return DataReport(
            kind=self._table.kind,
            found=self._seen + self._left_out + self._faulty,
            left_out=self._left_out,
            per_label=dict(sorted(self._labels.items())),
            duplicates=self._duplicates,
            kept_back=self._kept_back,
            faulty=self._faulty,
            faults=tuple(self._faults),
            obstacle=self._obstacle(name, minimum),
        )

    def _weigh(self, content: bytes, label: str) -> None:
        self._seen += 1
        if self._table.kind is DataKind.SERIES:
            # Windows are compared, and how long they are the job says.
            self._learnable += 1
            return
        new, validates = self._register.enter(content, label)
        self._duplicates += not new
        if new or self._table.duplicates is Duplicates.KEEP:
            self._kept_back += validates
            self._learnable += not validates

    def _obstacle(self, name: str, minimum: int) -> str:
        if self._faulty:
            return "A job refuses all data as long as there are such rows. Correct or delete them."
        try:
            check_number(name, self._learnable, minimum)
        except DataError as error:
            return f"{error} {error.next_step}"
        return ""


def _texts(source: DataSource, _: Expectation, refuse: Refuse) -> Iterator[_Item]:
    for line, text, label in iterate_texts(source, refuse):
        yield _Item(label=label, place=source.place(line), content=text.encode() if text.strip() else None)


def _images(source: DataSource, _: Expectation, refuse: Refuse) -> Iterator[_Item]:
    for file, pixels in iterate_images(source, _SIDE, refuse):
        yield _Item(label=file.label, place=file.place, content=None if pixels is None else pixels.tobytes())


def _readings(source: DataSource, expected: Expectation, refuse: Refuse) -> Iterator[_Item]:
    for reading in iterate_readings(source, expected.channels, refuse):
        yield _Item(label=reading.label, place=source.place(reading.line), content=b"")


_ITEMS: Final[Mapping[DataKind, Callable[[DataSource, Expectation, Refuse], Iterator[_Item]]]] = {
    DataKind.TEXTS: _texts,
    DataKind.IMAGES: _images,
    DataKind.SERIES: _readings,
}
