"""The examples that this site has under a name: read for a job, or counted for its owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge_agent.config import DataTable
from ravan.data.examples import KIND_OF_TASK, Examples, read_examples
from ravan.data.images import iterate_images
from ravan.data.series import iterate_labels
from ravan.data.source import DataKind, DataSource, nothing_to_learn
from ravan.data.texts import iterate_texts
from ravan.errors import DataError, ErrorReason
from ravan.manifest.plan import TrainingSettings

UNIT: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "rows",
    DataKind.IMAGES: "images",
    DataKind.SERIES: "rows",
}
"""What is counted."""

LACK: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "without text",
    DataKind.IMAGES: "that cannot be read",
    DataKind.SERIES: "without label",
}
"""Why some are of no use."""

_WANTED: Final[Mapping[DataKind, str]] = {
    DataKind.TEXTS: "row with a text",
    DataKind.IMAGES: "image that can be read",
    DataKind.SERIES: "row with a label",
}
"""What there must be one of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What `data check` may tell of a site's data: counts, never contents."""

    kind: DataKind
    found: int
    """Rows or images."""
    unusable: int
    """Those that there is nothing to learn from."""
    per_label: dict[str, int]
    """The others."""


def read_site_data(name: str, table: DataTable, training: TrainingSettings) -> Examples:
    """Read the site's examples with its own column names; raise DataError for whatever is wrong with them."""
    wanted = KIND_OF_TASK[training.task]
    if table.kind is not wanted:
        raise DataError(
            f"The job learns from {wanted}, but [data.{name}] holds {table.kind}.",
            reason=ErrorReason.DATA_MISSING,
            next_step=f'Set kind = "{wanted}" if that is what lies there, or ask HQ which name the job should use.',
        )
    return read_examples(_source(name, table), training)


def report_data(name: str, table: DataTable) -> DataReport:
    """Count the examples of one table by label; raise DataError when it cannot be read or nothing can be learnt."""
    source = _source(name, table)
    counters: Mapping[DataKind, Callable[[DataSource], Iterator[tuple[str, bool]]]] = {
        DataKind.TEXTS: lambda source: ((label, bool(text.strip())) for _, text, label in iterate_texts(source)),
        DataKind.IMAGES: iterate_images,
        DataKind.SERIES: lambda source: ((label, bool(label)) for label in iterate_labels(source)),
    }
    labels: Counter[str] = Counter()
    found = 0
    for label, usable in counters[table.kind](source):
        found += 1
        labels[label] += usable
    if not labels.total():
        raise nothing_to_learn(source.name, _WANTED[table.kind])
    per_label = {label: count for label, count in sorted(labels.items()) if count}
    return DataReport(kind=table.kind, found=found, unusable=found - labels.total(), per_label=per_label)


def _source(name: str, table: DataTable) -> DataSource:
    return DataSource(
        path=table.path,
        name=f"[data.{name}] {table.path}",
        format=table.format,
        text=table.text,
        label=table.label,
        group=table.group,
        columns=table.columns,
    )
