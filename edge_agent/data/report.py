"""What the owner of the data may be told of them: counts, faults and their places, never contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ravan.data.labels import printable
from ravan.data.source import DataKind

SHOWN_LABELS: Final = 100
"""Most labels that are listed; where there are more, they are answers in people's own words."""

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
    if len(report.per_label) > SHOWN_LABELS:
        yield f"  {len(report.per_label)} different labels or answers"
    else:
        yield from (f"  {count:7}  {printable(label)}" for label, count in report.per_label.items())
    for label in expected.labels:
        if label not in report.per_label:
            yield f"  {0:7}  {printable(label)}"
    for fault in report.faults:
        yield f"  {fault}"
    if report.faulty > len(report.faults):
        yield f"  ... and {report.faulty - len(report.faults)} more"
    job = "a job with these labels" if expected.labels else "a job that knows these labels"
    yield f"  {report.obstacle or f'This PC could take part in {job}.'}"
