"""What the owner of the data may be told before a job comes: counts, faults and their places, never contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge_agent.config import AgentFile, DataTable
from edge_agent.data.site_data import check_number, source_of
from ravan.data.contents import ContentRegister, Duplicates
from ravan.data.images import iterate_images
from ravan.data.labels import LabelIndex, printable
from ravan.data.series import iterate_readings
from ravan.data.source import DataKind, DataSource, nothing_to_learn
from ravan.data.tables import Refuse
from ravan.data.texts import iterate_texts
from ravan.errors import DataError

SHOWN_FAULTS: Final = 20
"""Most faults that are listed; all are counted."""

_SIDE: Final = 64
"""Pixels of both sides of images that are compared; the job that comes may compare at another size."""

UNIT: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "rows",
    DataKind.IMAGES: "images",
    DataKind.SERIES: "rows",
}
"""What is counted."""

LACK: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "without text",
    DataKind.IMAGES: "that cannot be read",
    DataKind.SERIES: "that are passed over",
}
"""Why some are left out."""

_WANTED: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "row with a text",
    DataKind.IMAGES: "image that can be read",
    DataKind.SERIES: "row with a label",
}
"""What there must be one of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What is known of the job that the data are for."""

    labels: tuple[str, ...] = ()
    """Empty: any label will do."""
    channels: tuple[str, ...] = ()
    """Series: columns that the job's model looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What `data check` tells of a site's data."""

    kind: DataKind
    found: int
    """Rows or images."""
    left_out: int
    """Those that a job passes over, as there is nothing to learn from."""
    per_label: dict[str, int]
    """Of the others, those that have a label."""
    duplicates: int
    """Texts or images that were there already, with the same label."""
    kept_back: int
    """Texts or images for validation."""
    faulty: int
    """Rows or images for which a job would refuse all data."""
    faults: tuple[str, ...]
    """What is wrong with the first of them."""
    obstacle: str
    """Why the site could not take part in a job; empty when it could."""


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
    if not tally.learnable and not tally.faulty:
        raise nothing_to_learn(source.name, _WANTED[table.kind])
    return tally.report(name, config.policy.minimum_examples)


def describe_report(name: str, report: DataReport, expected: Expectation) -> Iterator[str]:
    """Yield the lines that a person reads."""
    counts = {
        f"of them {LACK[report.kind]}": report.left_out,
        "that a job would refuse": report.faulty,
        "there already": report.duplicates,
        "kept for validation": report.kept_back,
    }
    told = (f", {count} {what}" for what, count in counts.items() if count)
    yield f"{name}: {report.found} {UNIT[report.kind]}{''.join(told)}"
    for label, count in report.per_label.items():
        yield f"  {count:7}  {printable(label)}"
    for label in expected.labels:
        if label not in report.per_label:
            yield f"  {0:7}  {printable(label)}"
    for fault in report.faults:
        yield f"  {fault}"
    if report.faulty > len(report.faults):
        yield f"  ... and {report.faulty - len(report.faults)} more"
    job = "a job with these labels" if expected.labels else "a job that knows these labels"
    yield f"  {report.obstacle or f'This PC could take part in {job}.'}"


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
        self.learnable = 0
        """Examples that would be learnt from, were there no faults."""
        self.faulty = 0

    def refuse(self, fault: DataError) -> None:
        """Count a row for which a job would refuse all."""
        self.faulty += 1
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
            found=self._seen + self._left_out + self.faulty,
            left_out=self._left_out,
            per_label=dict(sorted(self._labels.items())),
            duplicates=self._duplicates,
            kept_back=self._kept_back,
            faulty=self.faulty,
            faults=tuple(self._faults),
            obstacle=self._obstacle(name, minimum),
        )

    def _weigh(self, content: bytes, label: str) -> None:
        self._seen += 1
        if self._table.kind is DataKind.SERIES:
            # Windows are compared, and how long they are the job says.
            self.learnable += 1
            return
        new, validates = self._register.enter(content, label)
        self._duplicates += not new
        if new or self._table.duplicates is Duplicates.KEEP:
            self._kept_back += validates
            self.learnable += not validates

    def _obstacle(self, name: str, minimum: int) -> str:
        if self.faulty:
            return "A job refuses all data as long as there are such rows. Correct or delete them."
        try:
            check_number(name, self.learnable, minimum)
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
